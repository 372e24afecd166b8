"""What a sweep's folder holds: its jobs, which of them a command means, which it must not.

A job keeps its folder for as long as it is the same, however the grid around it grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.composing.folders import name_job
from glm_experiments.record.errors import RunFailed
from glm_experiments.record.files import SWEEP
from glm_experiments.record.masking import mask_override
from glm_experiments.record.read_back import read_object
from glm_experiments.record.versions import migrate_settings, read_version
from glm_experiments.record.writing import encode_json
from glm_experiments.sweeps.points import Point, find_deciding, find_varying


@dataclass(kw_only=True, slots=True)
class Job:
    """A job of a sweep, of this command or of an earlier one.

    folder: its name below the sweep's. settings: flat; empty where nobody kept them.
    """

    folder: str
    overrides: list[str]
    settings: Mapping[str, Any]


class Ledger:
    """The jobs of a sweep's folder, in the order in which they came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, Job] = {job.folder: job for job in read_jobs(folder)}

    def admit(
        self, points: Sequence[Point], *, fixed: Sequence[str], names: Sequence[str] | None
    ) -> list[Job]:
        """The job of every point, new ones included.

        fixed: the keys that a command line gives all of its jobs. names: of the jobs' folders,
        where they are chosen by the user.

        Raises:
            RunFailed: where the folder holds a sweep of something else.
        """
        sound = [point for point in points if point.problem is None]
        self.check_base([point.settings for point in sound])
        varying = self.varying() | find_varying(point.settings for point in sound)
        jobs = []
        for number, point in enumerate(points):
            if names is not None:
                folder = names[number]
            elif (known := self._find(point, varying)) is not None:
                folder = known.folder
            else:
                folder = name_job(point.overrides, fixed=fixed)
                if folder in self.jobs:  # of a time when a key was varied that now is fixed
                    folder = name_job(point.overrides, fixed=())
            # What may change has the value that was typed last.
            self.jobs[folder] = Job(folder=folder, overrides=point.shown, settings=point.settings)
            jobs.append(self.jobs[folder])
        return jobs

    def _find(self, point: Point, varying: set[str]) -> Job | None:
        """The job that a point is, if there is one."""
        keys = find_deciding(point.settings) | varying
        for job in self.jobs.values():
            if job.settings and all(
                job.settings[key] == point.settings.get(key) for key in keys & job.settings.keys()
            ):
                return job
        return None

    def varying(self) -> set[str]:
        """The keys in which the jobs differ."""
        return find_varying(job.settings for job in self.jobs.values() if job.settings)

    def base(self) -> dict[str, Any]:
        """What all jobs have in common, flat."""
        known = [job.settings for job in self.jobs.values() if job.settings]
        first = known[0] if known else {}
        return {key: first[key] for key in first.keys() - self.varying()}

    def check_base(self, given: Sequence[Mapping[str, Any]]) -> None:
        """Refuse jobs that differ from those in the folder in what neither varies.

        Raises:
            RunFailed: naming it.
        """
        if not given:
            return
        saved = self.base()
        keys = (find_deciding(given[0]) & saved.keys()) - find_varying(given)
        changes = [
            f"{key} was {saved[key]}, now {given[0].get(key)}"
            for key in sorted(keys)
            if saved[key] != given[0].get(key)
        ]
        if changes:
            raise RunFailed(
                f"{self.folder} holds a sweep of another config: {'; '.join(changes)}; type the "
                "former values to go on with it, or name=NAME for a sweep of its own"
            )


def hash_base(base: Mapping[str, Any]) -> str:
    """By which a base config is told from another."""
    return hashlib.sha256(encode_json(dict(sorted(base.items()))).encode()).hexdigest()[:16]


def read_jobs(folder: Path) -> list[Job]:
    """The jobs that a sweep's record names.

    Raises:
        RunFailed: for a file that is no such record.
    """
    file = folder / SWEEP
    if not file.is_file():
        return []
    try:
        record = read_object(file)
        version = read_version(record, source=file)
        base = record["base"]["config"]
        return [
            Job(
                folder=Path(job["folder"]).name,
                overrides=[mask_override(each) for each in job["overrides"]],
                settings=migrate_settings(version, {**base, **job["settings"]})
                if job["settings"] is not None
                else {},
            )
            for job in record["jobs"]
        ]
    except (ValueError, LookupError, TypeError) as error:
        raise RunFailed(
            f"{file} can't be used ({error}); remove it: the jobs' own folders say all that it says"
        ) from None
