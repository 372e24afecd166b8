"""One job of Hydra's: its config, and what its process does, as Hydra's own launcher would do it.
Knows no other job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from glm_experiments.composing.composer import Composer
from glm_experiments.config import parse
from glm_experiments.sweeps.child import Request, Survey
from glm_experiments.sweeps.disk import measure_trained
from glm_experiments.sweeps.points import Point


def name_as_typed(
    hydra_context: HydraContext, config: DictConfig, points: Sequence[Point], *, first: int
) -> list[str] | None:
    """The folders of jobs where a user has typed how they are named; None: he hasn't."""
    typed = [each.partition("=")[0] for each in config.hydra.overrides.hydra]
    if "hydra.sweep.subdir" not in typed:
        return None
    jobs = [
        compose_job(hydra_context, config, point.overrides, number=number)
        for number, point in enumerate(points, start=first)
    ]
    return [str(job.hydra.sweep.subdir) for job in jobs]


def compose_job(
    hydra_context: HydraContext, config: DictConfig, overrides: list[str], *, number: int
) -> DictConfig:
    """The whole config of one job, with Hydra's own section."""
    job = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    return job


def do_work(
    composer: Composer,
    hydra_context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    request: Request,
) -> Any:
    """Do what is asked for; in a process of its own."""
    if isinstance(request, Survey):
        return [measure_trained(parse(composer.compose(job))) for job in request.jobs]
    return do_job(hydra_context, task, config, request)


def do_job(
    hydra_context: HydraContext, task: TaskFunction, config: DictConfig, request: Request
) -> Any:
    """Do a job as Hydra's own launcher would; in its process.

    Raises:
        Exception: whatever ended it.
    """
    job = compose_job(hydra_context, config, request.overrides, number=request.number)
    with open_dict(job):
        job.hydra.sweep.dir = str(request.folder.parent)
        job.hydra.sweep.subdir = request.folder.name
        # What is said on the terminal is the launcher's.
        handlers = OmegaConf.select(job, "hydra.job_logging.root.handlers")
        if handlers is not None and "file" in handlers:
            job.hydra.job_logging.root.handlers = [each for each in handlers if each != "console"]
    done = run_job(
        hydra_context=hydra_context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    # Its public form would print the overrides first, with whatever secrets there are.
    value = done._return_value
    if isinstance(value, Exception):
        raise value
    return value
