"""A run's folder -> what stands there of how it ended, and of the config that trained.

Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from glm_experiments.record.files import RESULTS, SAVED_CONFIG, TRAINED
from glm_experiments.record.versions import migrate, migrate_config, read_version


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """The record of a run, as today's; None: it was killed, still runs, or there is no run.

    Raises:
        ValueError: for a file that holds no record, or one of a later version.
    """
    file = run_dir / RESULTS
    if not file.is_file():
        return None
    record = read_object(file)
    if not all(isinstance(record.get(each), dict) for each in ("run", "config", "outcome")):
        raise ValueError(f"{file} is no run's record; copy it again, or remove it")
    return migrate(read_version(record, source=file), record)


def swept_value(outcome: Mapping[str, Any]) -> float | None:
    """What a sweeper is told of an outcome: its validation loss if measured, else its training
    loss."""
    return outcome.get("best_validation_loss") or outcome.get("loss")


def read_trained_config(run_dir: Path) -> Mapping[str, Any] | None:
    """The config of what was trained in a folder, nested; before anything was, of what will be.

    None: the folder holds no run. In today's fields; interpolations are resolved, secrets hidden.

    Raises:
        ValueError: for a file that holds none.
    """
    if (run_dir / TRAINED).is_file():
        return read_saved(read_object(run_dir / TRAINED), source=run_dir / TRAINED)
    if (record := read_record(run_dir)) is not None:  # of a run from before there was the former
        config: dict[str, Any] = record["config"]
        return config
    if not (run_dir / SAVED_CONFIG).is_file():
        return None
    return read_saved(read_composed(run_dir / SAVED_CONFIG), source=run_dir / SAVED_CONFIG)


def read_composed(file: Path) -> Mapping[str, Any]:
    """The config that Hydra composed and wrote down, nested and resolved.

    Raises:
        ValueError: for a file that holds none.
    """
    try:
        composed = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); copy it again, or remove it") from error
    if not isinstance(composed, dict):
        raise ValueError(f"{file} holds no config; copy it again, or remove it")
    return composed  # type: ignore[return-value]


def read_saved(config: Mapping[Any, Any], *, source: Path) -> dict[str, Any]:
    """A saved config in today's fields.

    Raises:
        ValueError: for one of a later version.
    """
    return migrate_config(read_version(config, source=source), config)


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        ValueError: for a file that holds none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); copy it again, or remove it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no record; copy it again, or remove it")
    return content
