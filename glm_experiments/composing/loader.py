"""Where the options are, and how Hydra composes one job from them. Knows no check."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from glm_experiments.composing.folders import register_resolvers
from glm_experiments.config import register_schemas

PACKAGE_DIR = Path(__file__).resolve().parents[1]
# A wheel carries conf/ inside the package; a checkout has it beside the package.
CONF_DIR = next(
    path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir()
)
# An install maps it onto `hydra_plugins`, which alone Hydra looks into.
PLUGINS_DIR = PACKAGE_DIR / "sweeps" / "plugins"
PLUGINS = "hydra_plugins.glm_launcher"

# Jobs that Hydra runs in processes of others than ours name their folders, too.
register_resolvers()


def build_loader(config_dir: str | None = None) -> ConfigLoaderImpl:
    """A loader over `conf/`, and before it the user's own `--config-dir`.

    Raises:
        ValueError: where `config_dir` is no folder.
    """
    register_schemas()
    find_plugins()
    search_path = create_config_search_path(str(CONF_DIR))
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise ValueError(f"--config-dir {config_dir}: there is no such folder")
        search_path.prepend(
            provider="command-line",
            path=f"file://{folder}",
            anchor=SearchPathQuery(provider="schema"),
        )
    return ConfigLoaderImpl(config_search_path=search_path)


def find_plugins() -> None:
    """Let Hydra know of our launcher and sweeper where no install has mapped them."""
    known = Plugins.instance()
    if f"{PLUGINS}.ForkingLauncher" in known.class_name_to_class:
        return
    sys.path.append(str(PLUGINS_DIR))
    module = importlib.import_module(PLUGINS)
    for plugin in (module.ForkingLauncher, module.GridSweeper):
        known.register(plugin)


def compose(loader: ConfigLoaderImpl, overrides: list[str]) -> DictConfig:
    """The config of one job, without Hydra's own section."""
    cfg = loader.load_configuration("train", overrides, RunMode.RUN)
    with open_dict(cfg):
        cfg.pop("hydra")
    return cfg
