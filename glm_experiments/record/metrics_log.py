"""The figures of a run's steps as they come, on disk whatever becomes of the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from glm_experiments.record.writing import encode_json, explain_full_disk


class MetricsLog:
    """`metrics.jsonl`: one line a logged step, on disk before `log` returns.

    A resumed run appends: of two lines for one step and key the later counts.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        if file.exists():  # a killed run may have left half a line
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append `values` of a step.

        Raises:
            RuntimeError: the disk is full.
        """
        line = encode_json({"step": step, **values}) + "\n"
        with explain_full_disk(self.file), self.file.open("ab") as stream:
            stream.write(line.encode(errors="backslashreplace"))
