"""Which checkpoints of a run are whole, and with which settings they were made.

A checkpoint counts once its `complete.json` stands beside its files: written last, it holds every
file's size and checksum. Knows folders and files only, no model.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.record.errors import Refused
from glm_experiments.record.files import MARKER, checkpoint_name, numbered_checkpoints
from glm_experiments.record.writing import write_json

log = logging.getLogger(__name__)

# What may differ between a run and its continuation: how often it speaks and saves.
CADENCE = ("logging_steps", "eval_steps", "save_steps", "save_total_limit", "resume")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a training begins. checkpoint: that it continues, None: anew.

    settings: what a checkpoint must agree with to be continued, flat.
    """

    checkpoint: Path | None
    settings: Mapping[str, Any]


def comparable_settings(config: Mapping[str, Any], *, data: str) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued, flat, by the keys that a user types.

    config: of the run, nested. data: fingerprint of all rows.
    """
    flat = {
        f"{section}.{key}": value
        for section in ("model", "tuner", "training")
        for key, value in config[section].items()
        if key not in CADENCE
    }
    return {**flat, "seed": config["seed"], "data": data}


def write_marker(checkpoint: Path, *, settings: Mapping[str, Any]) -> None:
    """Declare a checkpoint complete."""
    files = {
        str(path.relative_to(checkpoint)): [path.stat().st_size, checksum(path)]
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file()
    }
    write_json(checkpoint / MARKER, {"files": files, "settings": settings})


def checksum(file: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with file.open("rb") as stream:
        while piece := stream.read(1 << 22):
            value = zlib.crc32(piece, value)
    return value


def what_is_broken(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be used; None: it can."""
    marker = checkpoint / MARKER
    if not marker.is_file():
        return "it was not written to its end"
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError):
        return f"its {MARKER} can't be read"
    for name, (size, value) in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size or checksum(file) != value:
            return f"{name} is not as it was written"
    return None


def find_last_complete(run_dir: Path) -> Path | None:
    """The complete checkpoint with the highest step; warns of those that are not complete."""
    for path in reversed(numbered_checkpoints(run_dir).values()):
        problem = what_is_broken(path)
        if problem is None:
            return path
        log.warning("%s is passed over: %s", path, problem)
    return None


def find_start(resume: str, run_dir: Path, *, settings: Mapping[str, Any]) -> Start:
    """Where `training.resume` lets a training of these settings begin.

    Raises:
        ValueError: for a folder that is no whole checkpoint, or one made with other settings.
    """
    return Start(
        checkpoint=find_resume(resume, run_dir=run_dir, settings=settings), settings=settings
    )


def find_resume(resume: str, *, run_dir: Path, settings: Mapping[str, Any]) -> Path | None:
    """The checkpoint that `training.resume` means; None: start anew.

    Raises:
        ValueError: for a folder that is no whole checkpoint, or one made with other settings.
    """
    if resume == "never":
        return None
    if resume == "auto":
        checkpoint = find_last_complete(run_dir)
        if checkpoint is None:
            return None
    else:
        checkpoint = Path(resume)
        problem = what_is_broken(checkpoint) if checkpoint.is_dir() else "there is no such folder"
        if problem is not None:
            raise Refused(
                f"training.resume={resume} can't be continued: {problem}; "
                "type training.resume=auto, never, or another checkpoint's folder"
            )
    check_settings(checkpoint, settings)
    return checkpoint


def check_settings(checkpoint: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint under settings that would make it another run."""
    marker = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    saved = marker["settings"]
    # Through JSON, so that tuples and numbers compare as they were written.
    given = json.loads(json.dumps(settings))
    changed = [
        f"{key} was {saved.get(key)}, now {given.get(key)}"
        for key in sorted({*saved, *given})
        if saved.get(key) != given.get(key)
    ]
    if changed:
        raise Refused(
            f"{checkpoint} was made with other settings: {'; '.join(changed)}; type the former "
            "values to continue it, or training.resume=never to start anew"
        )


def remove_old(run_dir: Path, *, num_kept: int | None, best_step: int | None) -> None:
    """Delete the oldest checkpoints beyond `num_kept`, never the best or the last."""
    if num_kept is None:
        return
    steps = list(numbered_checkpoints(run_dir))
    spare = [step for step in steps[:-1] if step != best_step]
    num_extra = max(0, len(steps) - max(num_kept, 1))
    for step in spare[:num_extra]:
        shutil.rmtree(run_dir / checkpoint_name(step))
