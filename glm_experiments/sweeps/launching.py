"""Hydra's jobs -> a sweep: finds each its folder, runs those that are to run, tells Hydra what came
of all. What a job does is Hydra's business, and the task's."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from glm_experiments.composing.composer import Composer
from glm_experiments.composing.folders import key_of
from glm_experiments.composing.keeping import mask_sweep
from glm_experiments.record.lost import record_lost
from glm_experiments.record.masking import Secrets, find_secrets
from glm_experiments.sweeps.breaker import Breaker
from glm_experiments.sweeps.child import Survey
from glm_experiments.sweeps.crew import Crew
from glm_experiments.sweeps.disk import (
    MOST_MEASURED,
    check_space,
    group_alike,
)
from glm_experiments.sweeps.ending import FAILED
from glm_experiments.sweeps.hydra_job import do_work, name_as_typed
from glm_experiments.sweeps.ledger import Job, Ledger
from glm_experiments.sweeps.options import Options
from glm_experiments.sweeps.outcome import FINISHED, WAITING, Outcome, read_outcome
from glm_experiments.sweeps.points import Point, plan_point
from glm_experiments.sweeps.seats import Seats
from glm_experiments.sweeps.summary import Row, write_summary
from glm_experiments.sweeps.supervision import Supervision, Task
from glm_experiments.sweeps.view import View

log = logging.getLogger(__name__)

NO_JOB = -1
"""The number of what is asked for before the first job."""

NEVER = "never"
"""`training.resume` of a job that is to run whatever its folder holds."""


class Sweep:
    """The jobs of one command, in one batch or, where a sweeper decides on the way, in several."""

    def __init__(
        self,
        options: Options,
        *,
        hydra_context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
    ) -> None:
        setup_globals()
        self.options = options
        self.folder = Path(str(config.hydra.sweep.dir))
        self.fixed = list(config.hydra.job.config.override_dirname.exclude_keys)
        self.secrets = Secrets(find_secrets(OmegaConf.to_container(config)))
        self.composer = Composer(hydra_context.config_loader)  # type: ignore[arg-type]
        self.name_folder = functools.partial(name_as_typed, hydra_context, config)
        self.crew = Crew(functools.partial(do_work, self.composer, hydra_context, task, config))
        self.ledger = Ledger(self.folder)
        self.outcomes: dict[str, Outcome] = {}

    def run(self, overrides: Sequence[list[str]], *, first: int) -> list[JobReturn]:
        """Run those jobs that are not done. first: the number of the first.

        Raises:
            RunFailed: where the folder holds something else.
            Interrupted: after a signal, once the jobs that ran have ended.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mask_sweep(self.folder, self.secrets)
        points = [plan_point(self.composer, each) for each in overrides]
        names = self.name_folder(points, first=first)
        jobs = self.ledger.admit(points, fixed=self.fixed, names=names)
        for name in self.ledger.jobs:
            self.outcomes[name] = read_outcome(self.folder / name)
        tasks = self.plan_tasks(points, jobs, first=first)
        self.write()
        try:
            if tasks:
                self.carry_out(tasks)
        finally:
            self.write()
        return [self.tell_hydra(job, each) for job, each in zip(jobs, overrides, strict=True)]

    def carry_out(self, tasks: list[Task]) -> None:
        """Run some jobs."""

        def told(task: Task, outcome: Outcome) -> None:
            self.outcomes[task.folder.name] = outcome
            self.write()

        def check(seats: Seats) -> None:
            self.check_space([task.point for task in tasks], at_once=seats.most)

        def make_view(seats: Seats) -> View:
            return View(self.folder.name, num_jobs=len(tasks), at_once=seats.most)

        supervision = Supervision(
            tasks,
            options=self.options,
            crew=self.crew,
            breaker=Breaker(self.ledger.varying()),
            told=told,
        )
        supervision.carry_out(check=check, make_view=make_view)

    def check_space(self, points: Sequence[Point], *, at_once: int) -> None:
        """Hold the jobs' checkpoints against the free space.

        Raises:
            RunFailed: where they find no room.
        """
        configs = [point.config for point in points]
        groups = list(group_alike(configs).values())[:MOST_MEASURED]
        jobs = [points[places[0]].overrides for places in groups]
        with tempfile.TemporaryDirectory() as scratch:
            sizes = self.crew.ask(
                Survey(
                    number=NO_JOB,
                    overrides=[],
                    folder=Path(scratch),
                    environment={},
                    num_threads=1,
                    jobs=jobs,
                )
            )
        if sizes is None:
            return
        largest = max((size for size in sizes if size is not None), default=None)
        trained = [largest] * len(points)
        for places, size in zip(groups, sizes, strict=True):
            for place in places:
                trained[place] = size
        check_space(self.folder, configs, trained, at_once=at_once)

    def plan_tasks(self, points: Sequence[Point], jobs: Sequence[Job], *, first: int) -> list[Task]:
        """The jobs that are to run, and a word on those that are not."""
        tasks: dict[str, Task] = {}
        left: Counter[str] = Counter()
        for number, (point, job) in enumerate(zip(points, jobs, strict=True), start=first):
            folder = self.folder / job.folder
            if job.folder in tasks:
                continue
            if point.problem is not None:
                record_impossible(folder, point)
                self.outcomes[job.folder] = read_outcome(folder)
                log.error("%s: %s", job.folder, point.problem)
                continue
            status = self.outcomes[job.folder].status
            is_anew = point.config["training"]["resume"] == NEVER
            if status in (WAITING, *self.options.retry) or is_anew:
                swept = [each for each in point.shown if key_of(each) not in self.fixed]
                label = " ".join(map(without_section, swept)) or job.folder
                tasks[job.folder] = Task(number=number, point=point, label=label, folder=folder)
            else:
                left[status] += 1
        if num_finished := left.pop(FINISHED, 0):
            log.info("%d of %d jobs are finished already", num_finished, len(set(map(id, jobs))))
        if left:
            counts = ", ".join(f"{number} {status}" for status, number in left.items())
            again = ",".join([*self.options.retry, *left])
            log.warning(
                "%s: left as they ended; hydra.launcher.retry=[%s] runs them again", counts, again
            )
        return list(tasks.values())

    def write(self) -> None:
        """Keep how things stand."""
        write_summary(self.ledger, self.rows())

    def rows(self) -> list[Row]:
        """All jobs of the folder, and how each stands."""
        return [
            Row(job=job, outcome=self.outcomes[job.folder]) for job in self.ledger.jobs.values()
        ]

    def tell_hydra(self, job: Job, overrides: list[str]) -> JobReturn:
        """What a sweeper is told of a job: its objective, or nothing."""
        outcome = self.outcomes[job.folder]
        is_finished = outcome.status == FINISHED
        told = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        told.return_value = outcome.objective if is_finished else None
        return told


def without_section(override: str) -> str:
    """`r=4` of `tuner.r=4`."""
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def record_impossible(folder: Path, point: Point) -> None:
    """Record a job whose config makes no run."""
    assert point.problem is not None
    record_lost(
        folder,
        FAILED,
        message=point.problem,
        name=folder.name,
        config=point.config,
        overrides=point.overrides,
    )
