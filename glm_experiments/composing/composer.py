"""Many jobs of one command line -> their configs: what their options compose is composed once, and
values are applied to copies of it. Knows no check."""

from __future__ import annotations

import copy

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from glm_experiments.composing.loader import compose


class Composer:
    """Composes as the loader does, at a tenth of the time for jobs that share their options."""

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.loader = loader
        self._groups = frozenset(loader.list_groups(""))
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: list[str]) -> DictConfig:
        """The config of one job, without Hydra's own section.

        Raises:
            HydraException: where the overrides compose none.
        """
        options = tuple(each for each in overrides if self.is_option(each))
        if options not in self._composed:
            self._composed[options] = compose(self.loader, list(options))
        cfg = copy.deepcopy(self._composed[options])
        values = [self._parse(each) for each in overrides if not self.is_option(each)]
        # What the loader itself does first and last.
        self.loader.validate_sweep_overrides_legal(
            overrides=values, run_mode=RunMode.RUN, from_shell=True
        )
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        return cfg

    def is_option(self, override: str) -> bool:
        """Whether an override chooses an option, so that it decides which keys there are."""
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        return "/" in key or key in self._groups

    def _parse(self, override: str) -> Override:
        if override not in self._parsed:
            (self._parsed[override],) = self._parser.parse_overrides([override])
        return self._parsed[override]
