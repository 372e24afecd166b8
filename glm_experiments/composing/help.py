"""What `glm-train --help` says: every option of every group, and the config that they compose.

Hydra's own help would list the schemas beside the options, and takes three times as long.
"""

from __future__ import annotations

from string import Template

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from glm_experiments.composing.loader import build_loader

# What options are made of, and Hydra's own.
INTERNAL_GROUPS = ("schema", "hydra")


def render_help(overrides: list[str], *, config_dir: str | None, resolve: bool) -> str:
    """The help text of `conf/hydra/help`, for the config that `overrides` compose.

    Raises:
        HydraException: where they compose none.
        ValueError: where `config_dir` is no folder.
    """
    loader = build_loader(config_dir)
    cfg = loader.load_configuration("train", overrides, RunMode.RUN)
    template = Template(cfg.hydra.help.template)
    with open_dict(cfg):
        cfg.pop("hydra")
    return template.substitute(
        APP_CONFIG_GROUPS=render_options(loader), CONFIG=OmegaConf.to_yaml(cfg, resolve=resolve)
    )


def render_options(loader: ConfigLoaderImpl) -> str:
    """One line a group: its name and its options."""
    # The loader's own methods copy all that it has read, each time that they are asked.
    repository = loader.repository
    options = {
        group: repository.get_group_options(group)
        for group in repository.get_group_options("", ObjectType.GROUP)
        if group not in INTERNAL_GROUPS
    }
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in options.items() if names)
