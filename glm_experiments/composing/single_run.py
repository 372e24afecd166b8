"""Composes a single run's config once, for its check and for Hydra, which would compose it twice
more. Words that are no plain `key=value` are left to the check of whole command lines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from glm_experiments.composing.explaining import explain, is_plain
from glm_experiments.composing.grammar import word_problems
from glm_experiments.composing.loader import build_loader
from glm_experiments.config import Impossible, join_problems, parse

VERSION_BASE = "1.3"
# As Hydra names it in `hydra.overrides`, where neither the command line nor a file said so.
AS_RUN = "hydra.mode=RUN"


class ComposedLoader(ConfigLoaderImpl):
    """A loader that gives Hydra what it has composed already."""

    def __init__(self, loader: ConfigLoaderImpl, *, cfg: DictConfig) -> None:
        super().__init__(loader.config_search_path)
        self.cfg = cfg

    def load_configuration(self, *_: Any, **__: Any) -> DictConfig:
        """The config; a copy, as Hydra writes into it."""
        return copy.deepcopy(self.cfg)


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleRun:
    """A run whose config has no problem. overrides: as they were typed."""

    cfg: DictConfig
    loader: ConfigLoaderImpl
    overrides: list[str]

    def start(self, task: Callable[[DictConfig], Any], *, name: str) -> None:
        """Let Hydra call `task` with the config, in its folder and with its logging.

        name: of the log file.
        """
        hydra = Hydra(task_name=name, config_loader=ComposedLoader(self.loader, cfg=self.cfg))
        GlobalHydra.instance().initialize(hydra)
        try:
            hydra.run(config_name="train", task_function=task, overrides=self.overrides)
        finally:
            GlobalHydra.instance().clear()


def compose_run(overrides: list[str], *, name: str, config_dir: str | None) -> SingleRun | None:
    """The run that a command line asks for; None: that takes a closer look.

    Raises:
        ValueError: with every problem, one a line; `Impossible` where it composes.
    """
    loader = build_loader(config_dir)
    if word_problems(overrides) or not all(map(is_plain, overrides)):
        return None
    version.setbase(VERSION_BASE)
    hydra = Hydra(task_name=name, config_loader=loader)  # whose resolvers and name a config may use
    try:
        cfg = hydra.compose_config("train", overrides, RunMode.RUN)
        alone = copy.deepcopy(cfg)
        with open_dict(alone):
            alone.pop("hydra")
        parse(alone)
    except Impossible:
        raise
    except (HydraException, OmegaConfBaseException, ValueError):
        problems = explain(loader, [each for each in overrides if not each.startswith("hydra.")])
        if problems:
            raise ValueError(join_problems(dict.fromkeys(problems))) from None
        return None  # it is a word for Hydra
    if OmegaConf.select(cfg, "hydra.mode") is None:
        cfg.hydra.mode = RunMode.RUN
        cfg.hydra.overrides.hydra.append(AS_RUN)
    if cfg.hydra.mode is not RunMode.RUN:
        return None
    return SingleRun(cfg=cfg, loader=loader, overrides=overrides)
