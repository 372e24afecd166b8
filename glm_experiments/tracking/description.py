"""What is said of a run where it is tracked, and in the log of tracking. Knows no tracker."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.record.files import TRACKED_RUN_ID

LONGEST_NAME = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDescription:
    """What a tracker shows of a run before it starts.

    name: of a sweep's job what `describe_swept_keys` says. folder: the run's own. group: the sweep.
    job_type: the tuner. tags: names of model, parallelism and data. config: nested, resolved.
    """

    name: str
    folder: Path
    group: str | None
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


def run_id_for(folder: Path) -> str:
    """The id of the run in `folder`, kept there: a resumed run goes on under its own."""
    file = folder / TRACKED_RUN_ID
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(6) + "\n")
    return file.read_text().strip()


def describe_swept_keys(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """What tells a job of a sweep from the others, e.g. `r=8 tuner=lora`; empty without `keys`.

    A key that is no part of the config (an experiment) shows in the values it brings, not here.
    """
    last_parts = Counter(key.rpartition(".")[2] for key in keys)
    parts = []
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("name")
        last = key.rpartition(".")[2]
        if value is not None:
            parts.append(f"{last if last_parts[last] == 1 else key}={value}")
    return " ".join(parts)[:LONGEST_NAME]


def one_line(error: Exception) -> str:
    """Type and message of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
