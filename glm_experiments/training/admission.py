"""What a run's folder holds, and what follows for an attempt with this config: it begins, continues
a checkpoint, has nothing left to do, or is refused. Decided before anything slow is imported."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.config.changes import pick_comparable, pick_experiment, pick_measured
from glm_experiments.record.errors import Refused
from glm_experiments.record.files import METRICS, has_trained, list_left
from glm_experiments.record.former import set_aside
from glm_experiments.record.read_back import read_record, read_trained_config
from glm_experiments.training.checkpoints import (
    HOW_TO_GO_ON,
    check_settings,
    find_checkpoint,
    list_changes,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """An attempt that may begin. checkpoint: that it continues; None: anew."""

    checkpoint: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A folder whose run is at its end, of this config. outcome: as recorded."""

    outcome: Mapping[str, Any]


def admit(run_dir: Path, *, config: Mapping[str, Any]) -> Admitted | Finished:
    """Decide on an attempt in a folder in which no other is at work; moves aside what is not its.

    config: nested.

    Raises:
        Refused: where it would go on with another experiment, or from what is no checkpoint. The
            folder is left as it is.
    """
    resume = config["training"]["resume"]
    if resume == "never":
        set_aside(run_dir, list_left(run_dir))
        return Admitted(checkpoint=None)
    try:
        record, former = read_record(run_dir), read_trained_config(run_dir)
    except ValueError as error:
        raise Refused(f"{error}, or type training.resume=never to start anew") from error
    if record is not None and record["run"].get("status") == "finished":
        # As it trained: what the config had left to the device is known there.
        check_experiment(run_dir, pick_experiment(former or {}), pick_experiment(config))
        check_measured(run_dir, pick_measured(record["config"]), config)
        return Finished(outcome=record["outcome"])
    # Where the rows lie may change; they themselves are compared once they are read.
    saved, given = pick_comparable(former or {}), pick_comparable(config)
    if has_trained(run_dir):
        check_experiment(run_dir, saved, given)
    checkpoint = find_checkpoint(resume, run_dir)
    if checkpoint is not None:
        check_settings(checkpoint, given)
    elif has_trained(run_dir) or ((run_dir / METRICS).exists() and list_changes(saved, given)):
        set_aside(run_dir, list_left(run_dir))  # nothing that could be continued, or mixed with
    return Admitted(checkpoint=checkpoint)


def check_experiment(run_dir: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder with what would make another experiment of it.

    Raises:
        Refused: naming it.
    """
    if changes := list_changes(saved, given):
        raise Refused(f"{run_dir} holds another experiment: {'; '.join(changes)}; {HOW_TO_GO_ON}")


def check_measured(run_dir: Path, saved: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to measure a finished run once more, for another command does that.

    Raises:
        Refused: naming it.
    """
    given = pick_measured(config)
    if changes := list_changes(saved, given):
        wanted = ("max_new_tokens", "num_rows", "metrics")
        keys = [key for each in wanted if given.get(key := f"evaluation.{each}") != saved.get(key)]
        overrides = " ".join(f"{key}={write_value(given[key])}" for key in keys)
        raise Refused(
            f"{run_dir} holds this run, finished: {'; '.join(changes)}; to measure it so, type "
            f"glm-evaluate {run_dir} {overrides}".rstrip()
        )


def write_value(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(map(write_value, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
