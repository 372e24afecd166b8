"""What a sweep came to: a table of its jobs, and the same as JSON and CSV. Reads nothing itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.config.objective import is_better_low
from glm_experiments.record.files import SWEEP, SWEEP_TABLE
from glm_experiments.record.versions import KEY, VERSION
from glm_experiments.record.writing import write_json, write_text
from glm_experiments.sweeps.ledger import Job, Ledger, hash_base
from glm_experiments.sweeps.outcome import FINISHED, Outcome
from glm_experiments.tables import render_table

HEADLINES = ("exact_match", "rouge_l", "perplexity")
MOST_METRICS = 6
"""Columns of metrics in a terminal's table; the files have all."""

LONGEST_MESSAGE = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A job and how it stands."""

    job: Job
    outcome: Outcome


def find_best(rows: Sequence[Row]) -> Row | None:
    """The finished job with the best objective; None: there is nothing to compare."""
    finished = [
        row for row in rows if row.outcome.status == FINISHED and row.outcome.objective is not None
    ]
    if not finished:
        return None
    name = finished[0].outcome.objective_name or ""
    sign = 1 if is_better_low(name) else -1
    return min(finished, key=lambda row: sign * (row.outcome.objective or 0.0))


def objective_name(rows: Sequence[Row]) -> str | None:
    """What the jobs are compared by; None: none has finished, or nothing was held out."""
    names = (row.outcome.objective_name for row in rows)
    return next((name for name in names if name is not None), None)


def swept_keys(rows: Sequence[Row]) -> list[str]:
    """The keys in which jobs differ as they were typed, in their order; an option brings many
    along, which its own name stands for."""
    typed: dict[str, set[str]] = {}
    for row in rows:
        for override in row.job.overrides:
            key, _, value = override.lstrip("+").partition("=")
            typed.setdefault(key, set()).add(value)
    everywhere = {
        key
        for key in typed
        if all(
            any(each.lstrip("+").partition("=")[0] == key for each in row.job.overrides)
            for row in rows
        )
    }
    return [key for key, values in typed.items() if len(values) > 1 or key not in everywhere]


def values_of(job: Job, keys: Sequence[str]) -> list[str]:
    """What a job has for some keys, as it was typed; of those that weren't, what it has."""
    typed = {
        key: value for key, _, value in (each.lstrip("+").partition("=") for each in job.overrides)
    }
    return [typed.get(key, str(job.settings.get(key, "-"))) for key in keys]


def write_summary(ledger: Ledger, rows: Sequence[Row]) -> None:
    """Replace the sweep's record and its table.

    Raises:
        RuntimeError: the disk is full.
    """
    base, varying, best = ledger.base(), ledger.varying(), find_best(rows)
    keys = swept_keys(rows)
    record = {
        KEY: VERSION,
        "name": ledger.folder.name,
        "objective": objective_name(rows),
        "swept": keys,
        "best": None if best is None else str(folder_of(ledger, best.job)),
        "jobs": [describe(ledger, row, varying=varying) for row in rows],
        "base": {"hash": hash_base(base), "config": base},
    }
    write_json(ledger.folder / SWEEP, record)
    metrics = metric_names(rows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = ("objective", "loss", "steps", "tokens_per_second", "peak_memory_bytes")
    writer.writerow(
        ["folder", *keys, "status", "best", *figures, "duration_seconds", *metrics, "message"]
    )
    for row in rows:
        values = [getattr(row.outcome, each) for each in (*figures, "duration_seconds")]
        cells = [*values, *(row.outcome.metrics.get(each) for each in metrics), row.outcome.message]
        writer.writerow(
            [
                row.job.folder,
                *values_of(row.job, keys),
                row.outcome.status,
                "best" if row is best else "",
                *("" if cell is None else cell for cell in cells),
            ]
        )
    write_text(ledger.folder / SWEEP_TABLE, stream.getvalue())


def describe(ledger: Ledger, row: Row, *, varying: set[str]) -> dict[str, Any]:
    """A job as it stands in the sweep's record."""
    outcome, kept = row.outcome, row.job.settings
    return {
        "folder": str(folder_of(ledger, row.job)),
        "overrides": row.job.overrides,
        "status": outcome.status,
        "message": outcome.message,
        "objective": outcome.objective,
        "metrics": outcome.metrics,
        "loss": outcome.loss,
        "steps": outcome.steps,
        "tokens_per_second": outcome.tokens_per_second,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "duration_seconds": outcome.duration_seconds,
        "settings": {key: kept[key] for key in sorted(varying & kept.keys())} if kept else None,
    }


def folder_of(ledger: Ledger, job: Job) -> Path:
    """A job's folder as it can be typed anywhere."""
    return (ledger.folder / job.folder).absolute()


def metric_names(rows: Sequence[Row]) -> list[str]:
    """All that was measured of any job."""
    return list(dict.fromkeys(name for row in rows for name in row.outcome.metrics))


def render_summary(ledger: Ledger, rows: Sequence[Row]) -> str:
    """The table of a terminal: swept keys, headline figures, how each job stands."""
    keys, best = swept_keys(rows), find_best(rows)
    lasts = [key.rpartition(".")[2] for key in keys]
    names = [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]
    metrics = shown_metrics(rows)
    objective = objective_name(rows) or "objective"
    header = ["", *names, "status", objective, *metrics, "tokens/s", "peak GiB"]
    lines = []
    for row in rows:
        outcome = row.outcome
        peak = outcome.peak_memory_bytes
        lines.append(
            [
                "*" if row is best else "",
                *values_of(row.job, keys),
                say_status(outcome),
                number(outcome.objective, "#.4g"),
                *(number(outcome.metrics.get(each), "#.4g") for each in metrics),
                number(outcome.tokens_per_second, ",.0f"),
                number(None if peak is None else peak / 2**30, ".2f"),
            ]
        )
    align = "<" * (len(names) + 2) + ">" * (len(metrics) + 3)
    table = render_table(lines, header=header, align=align)
    if best is None:
        return table
    return f"{table}\n* the best by {objective}: {ledger.folder / best.job.folder}"


def shown_metrics(rows: Sequence[Row]) -> list[str]:
    """The metrics of a terminal's table: those that say most, and not the objective once more."""
    objective = objective_name(rows)
    names = [
        name
        for name in metric_names(rows)
        if name != objective and name.rpartition("/")[2] in HEADLINES
    ]
    return names[:MOST_METRICS]


def say_status(outcome: Outcome) -> str:
    """How a job stands, and why it isn't finished."""
    if outcome.message is None or outcome.status == FINISHED:
        return outcome.status
    first = outcome.message.strip().partition("\n")[0]
    short = first if len(first) <= LONGEST_MESSAGE else f"{first[: LONGEST_MESSAGE - 3]}..."
    return f"{outcome.status}: {short}"


def number(value: float | None, form: str) -> str:
    """A figure, or that there is none."""
    return "-" if value is None else format(value, form)
