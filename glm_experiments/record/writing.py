"""Values -> JSON -> files that are whole or as they were, whatever happens while they are written.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What safetensors and torch say of a full disk, neither as an OSError.
FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|fail at inline_container")

# The name of a file, and of the process that writes it.
HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp")


def encode_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of plain values, paths and scalars of array libraries; NaN and infinities as null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _ if hasattr(value, "item"):
            return _plain(value.item())
        case _:
            return str(value)


def write_json(file: Path, value: Any) -> None:
    """Replace `file` atomically by the indented JSON of `value`."""
    write_text(file, encode_json(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace `file` atomically: a reader sees the old text or the whole new one.

    Raises:
        RuntimeError: the disk is full; the old text stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with explain_full_disk(file), temporary.open("wb") as stream:
            # Lone surrogates (of a broken file name) become their JSON escapes.
            stream.write(text.encode(errors="backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(folder: Path) -> None:
    """Delete what processes that were killed in `write_text` have left in a folder."""
    for path in folder.glob(".*.tmp"):
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(file: Path) -> Iterator[None]:
    """Say which file met a full disk or quota, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RuntimeError(
            f"no space is left to write {file}; free some, or type hydra.run.dir=FOLDER for one "
            "on another disk"
        ) from error
