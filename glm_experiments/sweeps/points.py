"""The overrides of a job -> all that is known of it before it runs. Knows no folder's content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from glm_experiments.composing.composer import Composer
from glm_experiments.config import parse, to_plain
from glm_experiments.config.changes import MEASURED, pick_experiment, section_values
from glm_experiments.record.masking import mask_override, mask_secrets
from glm_experiments.record.writing import encode_json

# Derived from others, or no part of what a job is.
NO_PART = ("name", "training.resume")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One job of a sweep.

    overrides: as its process gets them. config: nested and plain. settings: the same, flat and
    without secrets, as it is kept. num_gpus: it needs, None: all. problem: why it can't be run.
    """

    overrides: list[str]
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    num_gpus: int | None = 1
    num_processes: int = 1
    problem: str | None = None

    @property
    def shown(self) -> list[str]:
        """The overrides as they may be kept."""
        return [mask_override(each) for each in self.overrides]


def plan_point(composer: Composer, overrides: list[str]) -> Point:
    """Compose and check a job; what a sweeper chose by itself may be impossible."""
    try:
        return build_point(overrides, parse(composer.compose(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        return Point(overrides=overrides, config={}, settings={}, problem=str(error))


def build_point(overrides: list[str], config: Any) -> Point:
    """A job whose config was composed and checked."""
    plain = to_plain(config)
    return Point(
        overrides=overrides,
        config=plain,
        settings=flatten_settings(plain),
        num_gpus=config.parallelism.num_gpus(),
        num_processes=config.parallelism.num_processes(),
    )


def flatten_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config as it is kept of a job, through JSON, so that it compares with what was."""
    settings = json.loads(encode_json(section_values(mask_secrets(config))))
    return {key: value for key, value in settings.items() if key not in NO_PART}


def find_varying(settings: Iterable[Mapping[str, Any]]) -> set[str]:
    """The keys in which some jobs differ."""
    first, *others = [*settings] or [{}]
    keys = {key for each in (first, *others) for key in each}
    return {key for key in keys if any(each.get(key) != first.get(key) for each in others)}


def find_deciding(settings: Mapping[str, Any]) -> set[str]:
    """The keys that make a job another one, whether or not a sweep varies them."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        section, dot, field = key.partition(".")
        if dot:
            nested.setdefault(section, {})[field] = value
        else:
            nested[key] = value
    return set(pick_experiment(nested)) | (MEASURED & settings.keys())
