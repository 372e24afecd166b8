"""How far a work is, in a file that another process watches. Knows nothing of the work."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROGRESS_FILE = "GLM_PROGRESS_FILE"
"""The variable of a process, and all that it starts, that is watched so."""

SECONDS_BETWEEN_WRITES = 0.1


class FileBar:
    """What of a work is done, in a file that is replaced at once."""

    is_logged = True

    def __init__(self, file: Path, description: str, unit: str) -> None:
        self._file = file
        self._about = {"what": description, "unit": unit}
        self._written = 0.0

    def show(self, done: int, *, total: int, note: str | None = None) -> None:
        """Write it, unless that was done just now."""
        now = time.monotonic()
        if now - self._written < SECONDS_BETWEEN_WRITES and done < total:
            return
        self._written = now
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        state = {**self._about, "done": done, "total": total, "note": note or ""}
        with suppress(OSError):  # what the work itself can't write is said there
            temporary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
            temporary.replace(self._file)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a file says. at: when it was written, in seconds since the epoch."""

    what: str
    unit: str
    done: int
    total: int
    note: str
    at: float


def read_progress(file: Path) -> Seen | None:
    """What a file says; None: nothing yet."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return Seen(**state, at=file.stat().st_mtime)
    except (OSError, ValueError, TypeError):
        return None
