"""Which checkpoint a training continues, whether it is of the same experiment, which ones are kept.

A checkpoint counts once its marker stands beside its files. Knows folders and settings only, no
model.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.config import Dtype, Keep
from glm_experiments.config.changes import pick_comparable
from glm_experiments.record.errors import Refused
from glm_experiments.record.files import (
    ADAPTER,
    TRAINED,
    checkpoint_name,
    numbered_checkpoints,
)
from glm_experiments.record.former import set_aside
from glm_experiments.record.markers import read_marked_settings, what_is_broken
from glm_experiments.record.masking import mask_secrets
from glm_experiments.record.versions import KEY, VERSION
from glm_experiments.record.writing import encode_json, write_json

log = logging.getLogger(__name__)

# As transformers names it.
STATE = "trainer_state.json"

HOW_TO_GO_ON = (
    "type the former values to continue it, or training.resume=never to start anew, which keeps "
    "what is there in a folder of its own"
)


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
    return {**mask_secrets(pick_comparable(config)), "data": data}


def list_changes(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Which of the saved settings are given with another value; what was not saved yet is none."""
    # Through JSON, so that tuples and numbers compare as they were written.
    before, now = (json.loads(encode_json(mask_secrets(each))) for each in (saved, given))
    kinds = (f"{key.partition('.')[0]}.kind" for key in before)
    replaced = {kind.partition(".")[0] for kind in kinds if before.get(kind) != now.get(kind)}
    return [
        f"{key} was {before[key]}, now {now.get(key)}"
        for key in sorted(before)
        # What is still to be chosen by the device is compared once it is; and what only the former
        # kind of a section has goes without saying.
        if before[key] != now.get(key)
        and now.get(key) != Dtype.auto
        and (key in now or key.partition(".")[0] not in replaced)
    ]


def find_last_complete(run_dir: Path) -> Path | None:
    """The complete checkpoint with the highest step; warns of those that are not complete."""
    for path in reversed(numbered_checkpoints(run_dir).values()):
        problem = what_is_broken(path)
        if problem is None:
            return path
        log.warning("%s is passed over: %s", path, problem)
    return None


def find_checkpoint(resume: str, run_dir: Path) -> Path | None:
    """The checkpoint that `training.resume` means; None: there is none.

    Raises:
        Refused: for a folder that is no whole checkpoint.
    """
    if resume == "never":
        return None
    if resume == "auto":
        return find_last_complete(run_dir)
    checkpoint = Path(resume)
    problem = what_is_broken(checkpoint) if checkpoint.is_dir() else "there is no such folder"
    if problem is not None:
        raise Refused(
            f"training.resume={resume} can't be continued: {problem}; "
            "type training.resume=auto, never, or another checkpoint's folder"
        )
    return checkpoint


def check_settings(checkpoint: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint under settings that would make it another experiment.

    Raises:
        Refused: naming them.
    """
    saved = read_marked_settings(checkpoint)
    if changes := list_changes({key: saved[key] for key in settings if key in saved}, settings):
        raise Refused(
            f"{checkpoint} was made with other settings: {'; '.join(changes)}; {HOW_TO_GO_ON}"
        )


def begin_training(
    run_dir: Path, checkpoint: Path | None, config: Mapping[str, Any], data: str
) -> Start:
    """Let a training begin in its folder, or go on from a checkpoint.

    config: of the run, nested. data: fingerprint of all rows.

    Raises:
        Refused: for a checkpoint that was made with other settings or rows; all stays as it is.
    """
    settings = comparable_settings(config, data=data)
    if checkpoint is not None:
        check_settings(checkpoint, settings)
        set_aside(run_dir, list_later(run_dir, checkpoint))
    write_json(run_dir / TRAINED, {KEY: VERSION, **mask_secrets(config)})
    return Start(checkpoint=checkpoint, settings=settings)


def list_later(run_dir: Path, checkpoint: Path) -> list[Path]:
    """What a run's folder has of steps after the one that a training continues: damaged, or of an
    attempt that went another way. The training comes there again."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    start = state["global_step"]
    later = [path for step, path in numbered_checkpoints(run_dir).items() if step > start]
    return [*later, run_dir / ADAPTER] if later and (run_dir / ADAPTER).is_dir() else later


def remove_old(run_dir: Path, *, newest: int, num_kept: int | None, best_step: int | None) -> None:
    """Delete the oldest checkpoints up to the `newest` beyond `num_kept`, never the best or that.

    Whatever lies there of later steps is none of this training's.
    """
    if num_kept is None:
        return
    steps = [step for step in numbered_checkpoints(run_dir) if step <= newest]
    spare = [step for step in steps if step not in (newest, best_step)]
    num_extra = max(0, len(steps) - max(num_kept, 1))
    for step in spare[:num_extra]:
        shutil.rmtree(run_dir / checkpoint_name(step))


def keep_finished(run_dir: Path, *, keep: Keep, best_step: int | None) -> None:
    """Delete the checkpoints of a finished run that are not to stay.

    best_step: None: nothing was measured, so the last is the best.
    """
    steps = list(numbered_checkpoints(run_dir))
    match keep:
        case Keep.all:
            stays = steps
        case Keep.best:
            stays = [step for step in steps if step == best_step] or steps[-1:]
        case Keep.none:
            stays = []
        case _:
            raise TypeError(f"no such choice of checkpoints: {keep}")
    for step in set(steps).difference(stays):
        shutil.rmtree(run_dir / checkpoint_name(step))
