"""What a sweep says while it runs: lines at the foot of a terminal, a line a change in the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from glm_experiments.live import format_seconds, show_lines
from glm_experiments.progress_file import read_progress
from glm_experiments.record.files import LOG, PROGRESS
from glm_experiments.sweeps.outcome import FINISHED, Outcome
from glm_experiments.sweeps.summary import say_status

log = logging.getLogger(__name__)


class View:
    """Shows the jobs of one command.

    name: the sweep's. num_jobs: that there are, done before included. at_once: how many run.
    """

    def __init__(self, name: str, *, num_jobs: int, at_once: int) -> None:
        self.name = name
        self.num_jobs = num_jobs
        self.at_once = at_once
        self.ends: Counter[str] = Counter()
        self._seconds: list[float] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._lines = self._stack.enter_context(show_lines())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def begin(self, label: str, *, place: str) -> None:
        """A job begins."""
        log.info("%s: begins%s", label, place)

    def end(self, label: str, outcome: Outcome, *, seconds: float, folder: Path) -> None:
        """A job has ended."""
        self.ends[outcome.status] += 1
        count = f"{sum(self.ends.values())} of {self.num_jobs}"
        took = format_seconds(seconds)
        if outcome.status == FINISHED:
            self._seconds.append(seconds)
            figure = ""
            if outcome.objective is not None:
                figure = f", {outcome.objective_name} {outcome.objective:.4g}"
            log.info("%s: finished in %s%s (%s)", label, took, figure, count)
            return
        log.error("%s: %s (%s, see %s)", label, say_status(outcome), count, folder / LOG)

    def show(self, running: Sequence[tuple[str, Path, float]], *, num_waiting: int) -> None:
        """Draw how things stand.

        running: label, folder and seconds since the beginning of every job that runs.
        """
        if self._lines is None:
            return
        counts = [f"{number} {status}" for status, number in self.ends.items()]
        counts += [f"{len(running)} running", f"{num_waiting} waiting"]
        left = self.seconds_left([seconds for _, _, seconds in running], num_waiting=num_waiting)
        time_left = [] if left is None else [f"{format_seconds(left)} left"]
        lines = [f"{self.name}: {', '.join([*counts, *time_left])}"]
        for label, folder, seconds in running:
            seen = read_progress(folder / PROGRESS)
            state = f"for {format_seconds(seconds)}"
            if seen is not None:
                figures = [f"{seen.what} {seen.done}/{seen.total} {seen.unit}"]
                state = ", ".join([*figures, *([seen.note] if seen.note else [])])
            lines.append(f"  {label}: {state}")
        self._lines.show(lines)

    def seconds_left(self, running: Sequence[float], *, num_waiting: int) -> float | None:
        """Until all have ended, were they like those that finished; None: none did by now."""
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        work = num_waiting * mean + sum(max(0.0, mean - seconds) for seconds in running)
        return work / self.at_once
