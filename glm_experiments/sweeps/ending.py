"""How a job's process ended -> how the job stands, and a record of it where it left none."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from pathlib import Path

from glm_experiments.record.lost import KILLED, record_lost
from glm_experiments.sweeps.outcome import FINISHED, Outcome, read_outcome
from glm_experiments.sweeps.points import Point
from glm_experiments.sweeps.server import Ended

INTERRUPTED, FAILED = "interrupted", "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expulsion:
    """Why the launcher ended a job, and how that is called."""

    status: str
    message: str


def settle(
    ended: Ended,
    *,
    point: Point,
    folder: Path,
    expelled: Expulsion | None,
    has_recorded: bool,
) -> Outcome:
    """How a job stands whose process is gone; also in its folder.

    has_recorded: whether it wrote its own record.
    """
    outcome = read_outcome(folder)
    if has_recorded and (expelled is None or outcome.status == FINISHED):
        return outcome
    said = ended.said
    if expelled is not None:
        status, message = expelled.status, expelled.message
    elif said is None:
        status, message = KILLED, describe_death(ended.code)
    elif said.signum is not None:
        status, message = INTERRUPTED, signal.Signals(said.signum).name
    elif said.problem is not None:
        # Its folder has the record of another run, which stays, or is another process's.
        return replace(Outcome(status=FAILED), message=said.problem)
    else:
        return outcome  # it was finished before
    record_lost(
        folder,
        status,
        message=message,
        name=point.config.get("name", folder.name),
        config=point.config,
        overrides=point.overrides,
    )
    return read_outcome(folder)


def describe_death(code: int) -> str:
    """Why a process is gone that said nothing, in words."""
    if code >= 0:
        return f"its process ended unexpectedly (exit code {code})"
    name = signal.Signals(-code).name
    hint = ", as the system does when the machine's memory runs out" if code == -9 else ""
    return f"its process was ended by {name}{hint}"
