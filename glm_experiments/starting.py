"""A command line of glm-train, checked -> what starts its jobs: a run that is composed already, or
Hydra's own way, with what is to be around a sweep. Runs nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hydra

from glm_experiments.composing import checking
from glm_experiments.composing.loader import CONF_DIR, build_loader
from glm_experiments.composing.single_run import VERSION_BASE, compose_run
from glm_experiments.sweeps.closing import open_sweep
from glm_experiments.sweeps.opening import plan_sweep

if TYPE_CHECKING:
    from omegaconf import DictConfig

Task = Callable[["DictConfig"], float | None]

NAME = "train"
"""Of the config, and of the log file."""


def call_hydra(task: Task) -> Any:
    """Let Hydra read the command line."""
    decorate = hydra.main(version_base=VERSION_BASE, config_path=str(CONF_DIR), config_name=NAME)
    return decorate(task)()


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How a command line begins.

    call: has Hydra call a task for each job. swept_keys: that differ between jobs. around: what
    is to be around the call.
    """

    call: Callable[[Task], Any] = call_hydra
    swept_keys: list[str] = field(default_factory=list)
    is_sweep: bool = False
    around: AbstractContextManager[None] = field(default_factory=nullcontext)


def choose_start(arguments: Namespace, *, is_alone: bool) -> Start:
    """Check a command line and choose.

    is_alone: whether this process may fork jobs; one of a world that torchrun started may not.

    Raises:
        ValueError: with every problem, one a line.
    """
    overrides, config_dir = arguments.overrides, arguments.config_dir
    flags = {flag for flag, value in vars(arguments).items() if value} - {"overrides", "run"}
    if flags <= {"config_dir"}:
        single = compose_run(overrides, name=NAME, config_dir=config_dir)
        if single is not None:
            return Start(call=lambda task: single.start(task, name=NAME))
    if flags & {"hydra_help", "info", "cfg"}:  # only printed, whatever it is
        build_loader(config_dir)
        return Start()
    checked = checking.check_jobs(overrides, config_dir=config_dir, multirun=arguments.multirun)
    if not arguments.multirun:
        return Start(swept_keys=checked.axes.swept())
    plan = plan_sweep(checked, overrides, config_dir=config_dir, is_alone=is_alone)
    others = [each for each in sys.argv[1:] if each not in overrides]
    sys.argv[1:] = [*others, *plan.words]
    return Start(
        swept_keys=checked.axes.swept(),
        is_sweep=True,
        around=open_sweep(plan.folder, points=plan.points, fixed=plan.fixed),
    )
