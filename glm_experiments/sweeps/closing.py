"""Around a sweep, whichever launcher runs its jobs: nobody else is at work in its folder, and in
the end its table is shown and kept. Learns what came of the jobs from their folders alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from glm_experiments.record.errors import RunFailed
from glm_experiments.record.files import SAVED_CONFIG
from glm_experiments.record.masking import mask_override
from glm_experiments.record.read_back import read_trained_config
from glm_experiments.record.run import lock_folder
from glm_experiments.sweeps.ledger import Job, Ledger
from glm_experiments.sweeps.outcome import FINISHED, read_outcome
from glm_experiments.sweeps.points import Point, flatten_settings
from glm_experiments.sweeps.summary import Row, render_summary, say_status, write_summary

log = logging.getLogger(__name__)

TYPED = "overrides.yaml"
"""Beside the saved config, as Hydra names it."""


@contextmanager
def open_sweep(
    folder: Path, *, points: Sequence[Point] | None, fixed: Sequence[str]
) -> Iterator[None]:
    """Inside, the jobs of a sweep run; afterwards all of them are told of.

    points: that the command asks for; None: a sweeper decides on the way. fixed: the keys that are
    the same in all of them.

    Raises:
        RunFailed: where another process is at work in the folder, or it holds a sweep of another
            config; and where a job did not finish, once all have ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = lock_folder(folder)
    except RunFailed:
        raise RunFailed(
            f"another sweep is at work in {folder}; wait for it, or type name=NAME for a sweep of "
            "its own"
        ) from None
    with lock:
        if points is not None:
            Ledger(folder).check_base([point.settings for point in points])
        try:
            yield
        finally:
            problems = conclude(folder, points=points, fixed=fixed)
        if problems:
            raise RunFailed(problems)


def conclude(folder: Path, *, points: Sequence[Point] | None, fixed: Sequence[str]) -> str:
    """Keep and show what a sweep came to; returns which of the jobs did not finish, if any."""
    ledger = Ledger(folder)
    unlisted = find_unlisted(folder, ledger)
    ledger.jobs |= {job.folder: job for job in unlisted}
    asked = set(ledger.jobs)
    if points is not None:
        jobs = {job.folder: job for job in ledger.admit(points, fixed=fixed, names=None)}
        asked = set(jobs)
        if unlisted:
            ledger.jobs = {**jobs, **ledger.jobs}  # in the order of the grid
    rows = [Row(job=job, outcome=read_outcome(folder / job.folder)) for job in ledger.jobs.values()]
    if not rows:
        return ""
    write_summary(ledger, rows)
    log.info("%s\n%s", folder, render_summary(ledger, rows))
    lost = [row for row in rows if row.job.folder in asked and row.outcome.status != FINISHED]
    if not lost:
        return ""
    counts = Counter(row.outcome.status for row in lost)
    said = ", ".join(f"{number} {status}" for status, number in counts.items())
    lines = [f"{len(lost)} of {len(asked)} jobs did not finish ({said}); see {folder}"]
    lines += [f"- {row.job.folder}: {say_status(row.outcome)}" for row in lost]
    return "\n".join(lines)


def find_unlisted(folder: Path, ledger: Ledger) -> list[Job]:
    """The jobs in a sweep's folder that its record doesn't name: another launcher ran them."""
    found = []
    for file in sorted(folder.glob(f"*/{SAVED_CONFIG}")):
        run_dir = file.parents[1]
        if run_dir.name in ledger.jobs:
            continue
        try:
            config = read_trained_config(run_dir)
            typed = OmegaConf.to_container(OmegaConf.load(file.with_name(TYPED)))
        except (ValueError, OSError) as error:
            log.warning("%s is left out: %s", run_dir, error)
            continue
        overrides = [mask_override(str(each)) for each in typed] if typed else []
        settings = flatten_settings({} if config is None else config)
        found.append(Job(folder=run_dir.name, overrides=overrides, settings=settings))
    return found
