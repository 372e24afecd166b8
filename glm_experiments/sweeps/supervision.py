"""Runs the jobs of one command side by side and goes on whatever becomes of one. Decides who
begins, who is ended, and when there is no more to do."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from glm_experiments.record.errors import Interrupted
from glm_experiments.record.files import LOG, METRICS, PROGRESS, RESULTS
from glm_experiments.record.lost import TIMED_OUT
from glm_experiments.record.signals import STOPPING, handled
from glm_experiments.sweeps.breaker import Breaker
from glm_experiments.sweeps.child import Request
from glm_experiments.sweeps.crew import Crew
from glm_experiments.sweeps.ending import Expulsion, settle
from glm_experiments.sweeps.options import STOP, Options
from glm_experiments.sweeps.outcome import FINISHED, Outcome
from glm_experiments.sweeps.points import Point
from glm_experiments.sweeps.seats import Seat, Seats, count_cores
from glm_experiments.sweeps.server import Ended
from glm_experiments.sweeps.view import View

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
GRACE_SECONDS = 30.0
"""What a job may take for its checkpoint once it is asked to stop."""
MOST_SECONDS_A_LOOK = 2.0
"""Where more passed, all was suspended, and no job could do anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A job that is to run. label: by which it is called. folder: its own."""

    number: int
    point: Point
    label: str
    folder: Path


@dataclass(kw_only=True, slots=True)
class Running:
    """A job that runs. seconds: since it began; silent: since it last showed anything.

    record: of its record before, by which a new one is told. grace: seconds until it is killed.
    """

    task: Task
    seat: Seat
    record: int | None
    seconds: float = 0.0
    silent: float = 0.0
    sign: float = 0.0
    expelled: Expulsion | None = None
    grace: float | None = None


@dataclass(kw_only=True, slots=True)
class Stop:
    """How often somebody has asked for an end, and by which signal first."""

    signals: list[int] = field(default_factory=list)

    def receive(self, signum: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        self.signals.append(signum)


class Supervision:
    """One command's jobs, from the first to the last.

    told: hears of every job that ends.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        options: Options,
        crew: Crew,
        breaker: Breaker,
        told: Callable[[Task, Outcome], None],
    ) -> None:
        self.waiting = list(tasks)
        self.running: dict[int, Running] = {}
        self.options = options
        self.crew = crew
        self.breaker = breaker
        self.told = told
        self.stop = Stop()
        self.num_heard = 0

    def carry_out(
        self, *, check: Callable[[Seats], None], make_view: Callable[[Seats], View]
    ) -> None:
        """Run the jobs until none is left that could begin.

        check: looks at what is known before the first begins, and raises what speaks against it.

        Raises:
            Interrupted: after a signal, once the jobs that ran have ended.
            RuntimeError: where no job can be started.
        """
        with handled(self.stop.receive, *STOPPING):
            if self.crew.gpus is None:
                log.info("%d jobs; importing the libraries, once for all", len(self.waiting))
            while self.crew.gpus is None and not self.stop.signals:
                self.crew.hear(timeout=LOOK_SECONDS)
            visible = self.crew.gpus or ()
            self.seats = Seats(self.options, visible=visible, num_cores=count_cores())
            if not self.stop.signals:
                check(self.seats)
            with make_view(self.seats) as self.view:
                clock = time.monotonic()
                while True:
                    self.heed_signals()
                    self.begin_jobs()
                    if not self.running:
                        break
                    for ended in self.crew.hear(timeout=LOOK_SECONDS):
                        self.end_job(ended)
                    clock, passed = time.monotonic(), time.monotonic() - clock
                    for each in self.running.values():
                        self.watch(each, passed=min(passed, MOST_SECONDS_A_LOOK))
                    self.view.show(
                        [(e.task.label, e.task.folder, e.seconds) for e in self.running.values()],
                        num_waiting=len(self.waiting),
                    )
        if self.stop.signals:
            raise Interrupted(self.stop.signals[0])
        if self.waiting:
            log.error("%d jobs were not begun; type the same command for them", len(self.waiting))

    def begin_jobs(self) -> None:
        """Let jobs begin for which there is a seat."""
        for task in [] if self.stop.signals else list(self.waiting):
            seat = self.seats.take(task.point.num_gpus)
            if seat is None:
                continue
            self.waiting.remove(task)
            self.running[task.number] = Running(
                task=task, seat=seat, record=modified(task.folder / RESULTS)
            )
            place = f" on {', '.join(seat.devices)}" if seat.devices else ""
            self.view.begin(task.label, place=place)
            self.crew.start(self.request(task, seat))

    def request(self, task: Task, seat: Seat) -> Request:
        """What a job's process is told: it sees its own devices, and has its share of the cores."""
        environment = {}
        if self.seats.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(seat.devices)
        num_threads = None
        if self.seats.is_shared() and "OMP_NUM_THREADS" not in os.environ:
            num_threads = self.seats.num_threads
            share = max(1, num_threads // task.point.num_processes)
            environment["OMP_NUM_THREADS"] = str(share)
        return Request(
            number=task.number,
            overrides=task.point.overrides,
            folder=task.folder,
            environment=environment,
            num_threads=num_threads,
        )

    def end_job(self, ended: Ended) -> None:
        """Take in how a job ended, and what follows for the others."""
        each = self.running.pop(ended.number)
        task = each.task
        self.seats.leave(each.seat)
        (task.folder / PROGRESS).unlink(missing_ok=True)
        is_new = modified(task.folder / RESULTS) not in (None, each.record)
        outcome = settle(
            ended, point=task.point, folder=task.folder, expelled=each.expelled, has_recorded=is_new
        )
        self.view.end(task.label, outcome, seconds=each.seconds, folder=task.folder)
        self.told(task, outcome)
        if self.stop.signals:
            return
        if outcome.status != FINISHED and self.options.on_failure == STOP:
            self.waiting.clear()
        for place in each.seat.places:
            problem = self.breaker.notice(place, outcome, task.point.settings)
            if problem is not None and place not in self.seats.stopped:
                self.seats.stop(place)
                log.error("%s; no other job begins there", problem)

    def watch(self, each: Running, *, passed: float) -> None:
        """End a job that takes too long, or shows no sign of life."""
        each.seconds += passed
        sign = last_sign(each.task.folder)
        each.silent = each.silent + passed if sign == each.sign else 0.0
        each.sign = sign
        options, number = self.options, each.task.number
        if each.grace is not None:
            each.grace -= passed
            if each.grace <= 0:
                self.crew.kill(number, signal.SIGKILL, whole=True)
        elif options.timeout is not None and each.seconds > options.timeout:
            message = f"it took longer than hydra.launcher.timeout={options.timeout:g} seconds"
            each.expelled = Expulsion(status=TIMED_OUT, message=message)
            each.grace = GRACE_SECONDS
            self.crew.kill(number, signal.SIGTERM)
        elif each.silent > options.heartbeat_timeout:
            message = (
                "it showed no sign of life for hydra.launcher.heartbeat_timeout="
                f"{options.heartbeat_timeout:g} seconds"
            )
            each.expelled = Expulsion(status=TIMED_OUT, message=message)
            each.grace = GRACE_SECONDS
            self.crew.kill(number, signal.SIGKILL, whole=True)

    def heed_signals(self) -> None:
        """Pass on what somebody asked for: once, jobs keep a checkpoint and stop; twice, now."""
        while self.num_heard < len(self.stop.signals):
            signum = self.stop.signals[self.num_heard]
            self.num_heard += 1
            if self.num_heard == 1 and self.running:
                log.warning(
                    "%d running jobs keep a checkpoint and stop; once more stops at once",
                    len(self.running),
                )
            for number in self.running:
                if self.num_heard == 1:
                    self.crew.kill(number, signum)
                else:
                    self.crew.kill(number, signal.SIGKILL, whole=True)


def modified(file: Path) -> int | None:
    """When a file was written; None: there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def last_sign(folder: Path) -> float:
    """When a job last wrote something that says that it goes on."""
    times = [modified(folder / name) for name in (PROGRESS, LOG, METRICS)]
    return max((each for each in times if each is not None), default=0)
