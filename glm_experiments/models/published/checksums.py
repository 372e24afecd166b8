"""Whether a weight file is what the hub that it came from, or an index, says it is.

Safetensors files hold no checksum of their own. A file is checked once, until it changes.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HOME

CHECKED = Path(HF_HOME, "glm_experiments", "checked")
"""Holds an empty file for each file that was found to be right."""
DOWNLOADS = Path(".cache", "huggingface", "download")
"""Below a folder that the hub's client filled: what it knows of each file."""
_SHA_256 = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


def check_checksums(files: Iterable[Path], *, index: Mapping[str, Any]) -> None:
    """Compare files with the checksums that are known of them.

    index: the settings of the index that names them, or none.

    Raises:
        ValueError: naming a file that is another one, and where its checksum stands.
    """
    for file in files:
        if (expected := find_checksum(file, index=index)) is None:
            continue
        found = file.stat()
        facts = f"{file.resolve()} {found.st_size} {found.st_mtime_ns} {expected[0]}"
        stamp = CHECKED / hashlib.sha256(facts.encode()).hexdigest()
        if stamp.exists():
            continue
        log.info("checking %s (%.1f GB) against its checksum, once", file, found.st_size / 1e9)
        with file.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        if checksum != expected[0]:
            raise ValueError(
                f"{file} is damaged, or another file: its SHA-256 begins with {checksum[:12]}, "
                f"and should with {expected[0][:12]} ({expected[1]}); download it again"
            )
        with suppress(OSError):  # then it is checked again
            CHECKED.mkdir(parents=True, exist_ok=True)
            stamp.touch()


def find_checksum(file: Path, *, index: Mapping[str, Any]) -> tuple[str, str] | None:
    """The SHA-256 that a file should have, and who says so; None: nobody does."""
    stored = file.resolve()
    if stored.parent.name == "blobs" and _SHA_256.fullmatch(stored.name):
        return stored.name, "its name in the hub's cache"
    note = file.parent / DOWNLOADS / f"{file.name}.metadata"
    with suppress(OSError, UnicodeDecodeError):
        lines = note.read_text(encoding="utf-8").split()
        if len(lines) > 1 and _SHA_256.fullmatch(lines[1]):
            return lines[1], f"{note}; delete that if you changed the weights yourself"
    metadata = index.get("metadata")
    sums = metadata.get("sha256") if isinstance(metadata, dict) else None
    named = sums.get(file.name) if isinstance(sums, dict) else None
    if isinstance(named, str) and _SHA_256.fullmatch(named):
        return named, "metadata.sha256 of its index"
    return None
