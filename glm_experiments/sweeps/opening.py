"""A command line of many jobs -> where they go, and what Hydra must be told for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf

from glm_experiments.composing.checking import Checked
from glm_experiments.composing.grammar import quote_value
from glm_experiments.composing.loader import PLUGINS, build_loader
from glm_experiments.sweeps.options import Options
from glm_experiments.sweeps.points import Point, build_point

FOLDER = "hydra.sweep.dir"
FIXED = "hydra.job.config.override_dirname.exclude_keys"
LAUNCHER = "hydra/launcher"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A sweep that may begin.

    words: the overrides for Hydra, the same for every job. points: None: a sweeper chooses them on
    the way. fixed: the keys that are the same in all.
    """

    folder: Path
    words: list[str]
    points: list[Point] | None
    fixed: list[str]


def plan_sweep(
    checked: Checked, overrides: Sequence[str], *, config_dir: str | None, is_alone: bool
) -> Plan:
    """Plan what was checked.

    is_alone: whether this process may fork jobs; one of a world that torchrun started may not.

    Raises:
        ValueError: for options of the launcher that can't be.
    """
    setup_globals()
    words = [each for each in overrides if not each.startswith((f"{FOLDER}=", f"{FIXED}="))]
    if not is_alone and not any(each.startswith(f"{LAUNCHER}=") for each in words):
        words.append(f"{LAUNCHER}=basic")
    loader = build_loader(config_dir)
    cfg = loader.load_configuration("train", [*overrides], RunMode.MULTIRUN)
    launcher: Any = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    if is_alone and launcher.pop("_target_") == f"{PLUGINS}.ForkingLauncher":
        Options(**launcher).check()
    folder = str(cfg.hydra.sweep.dir)
    fixed = checked.axes.fixed()
    words += [
        # As of now: a job's own name is another one, and it is later there.
        f"{FOLDER}={quote_value(folder)}",
        f"{FIXED}=[{','.join(map(quote_value, fixed))}]",
    ]
    return Plan(
        folder=Path(folder),
        words=words,
        points=[build_point(*job) for job in checked.jobs] if checked.axes.is_grid else None,
        fixed=fixed,
    )
