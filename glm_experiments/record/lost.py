"""The record of a run that could not write its own any more: killed, or stopped by its launcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glm_experiments.record.files import RESULTS
from glm_experiments.record.read_back import read_record
from glm_experiments.record.run import Record
from glm_experiments.record.writing import write_json

KILLED, TIMED_OUT = "killed", "timed_out"
"""How a run ended that did not say so itself."""


def record_lost(
    run_dir: Path,
    status: str,
    *,
    message: str,
    name: str,
    config: Mapping[str, Any],
    overrides: Sequence[str],
) -> None:
    """Write the record that a run left unwritten; into one that it wrote, how it really ended.

    config: of the run, nested.
    """
    error = {"type": "Lost", "message": message}
    try:
        record = read_record(run_dir)
    except ValueError:  # damaged
        record = None
    if record is None:
        run_dir.mkdir(parents=True, exist_ok=True)
        lost = Record(run_dir / RESULTS, name=name, config=dict(config), overrides=overrides)
        lost.write(status, error)
        return
    record["run"] |= {"status": status, "error": error}
    write_json(run_dir / RESULTS, record)
