"""Folders that are whole or tell that they aren't: a marker holds the size and checksum of every
file. Knows nothing of what the files mean."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glm_experiments.record.files import MARKER
from glm_experiments.record.versions import KEY, VERSION, migrate_settings, read_version
from glm_experiments.record.writing import write_json


def write_marker(folder: Path, *, settings: Mapping[str, Any]) -> None:
    """Declare a folder whole, and made with these settings."""
    files = {
        str(path.relative_to(folder)): [path.stat().st_size, checksum(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MARKER
    }
    write_json(folder / MARKER, {KEY: VERSION, "files": files, "settings": settings})


def read_marked_settings(folder: Path) -> dict[str, Any]:
    """With which settings a whole folder was made, in today's fields.

    Raises:
        ValueError: for a folder of a later version.
    """
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    return migrate_settings(read_version(marker, source=folder / MARKER), marker["settings"])


def checksum(file: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def what_is_broken(folder: Path) -> str | None:
    """Why a marked folder cannot be used; None: it can."""
    if not (folder / MARKER).is_file():
        return "it was not written to its end"
    files = read_files(folder / MARKER)
    if files is None:
        return f"its {MARKER} can't be read"
    for name, (size, value) in files.items():
        if name == MARKER:  # of a time when a marker written anew listed the one before it
            continue
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size or checksum(file) != value:
            return f"{name} is not as it was written"
    return None


def read_files(marker: Path) -> dict[str, tuple[int, int]] | None:
    """The files that a marker lists, with size and checksum; None: it is damaged."""
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        return None
    files = content.get("files")
    if not isinstance(files, dict) or not files:
        return None
    if not all(isinstance(entry, list) and len(entry) == 2 for entry in files.values()):
        return None
    return {name: (size, value) for name, (size, value) in files.items()}


def write_marked(
    folder: Path, write: Callable[[Path], None], *, settings: Mapping[str, Any]
) -> None:
    """Let `write` fill a new folder and mark it; then alone it takes the place of `folder`."""
    # One process at a time is at work in a run's folder: what lies there is of one that was killed.
    new, old = (folder.with_name(f".{folder.name}.{each}") for each in ("new", "old"))
    try:
        shutil.rmtree(new, ignore_errors=True)
        write(new)
        write_marker(new, settings=settings)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
