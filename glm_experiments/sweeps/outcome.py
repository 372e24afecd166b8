"""A job's folder -> how it stands, and its headline figures. Knows no other job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glm_experiments.record.files import list_left
from glm_experiments.record.lost import KILLED
from glm_experiments.record.read_back import read_record, swept_value

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
"""How a job stands that has no end, or a good one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a job stands.

    message: why it didn't finish. objective: what it is compared by. metrics: `set/metric`, after
    training. loss: of the last step.
    """

    status: str
    message: str | None = None
    error: str | None = None
    objective: float | None = None
    objective_name: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss: float | None = None
    steps: int | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    duration_seconds: float | None = None


def read_outcome(run_dir: Path) -> Outcome:
    """What a folder says; one without a record was killed in the middle, or never began."""
    try:
        record = read_record(run_dir)
    except ValueError as error:
        return Outcome(status=KILLED, message=str(error))
    if record is None:
        return Outcome(status=KILLED if list_left(run_dir) else WAITING)
    run, outcome = record["run"], record["outcome"]
    problem = run.get("error") or {}
    return Outcome(
        status=run["status"],
        message=problem.get("message"),
        error=problem.get("type"),
        objective=swept_value(outcome),
        objective_name=(outcome.get("objective") or {}).get("name"),
        metrics=pick_metrics(outcome),
        loss=outcome.get("loss"),
        steps=outcome.get("steps"),
        tokens_per_second=outcome.get("tokens_per_second"),
        peak_memory_bytes=max((outcome.get("peak_memory_bytes") or {}).values(), default=None),
        duration_seconds=run.get("duration_seconds"),
    )


def pick_metrics(outcome: Mapping[str, Any]) -> dict[str, float]:
    """What was measured of every set after training."""
    after: Mapping[str, Any] = (outcome.get("metrics") or {}).get("after") or {}
    return {
        f"{name}/{metric}": value
        for name, figures in after.items()
        for metric, value in figures.items()
        if isinstance(value, int | float)
    }
