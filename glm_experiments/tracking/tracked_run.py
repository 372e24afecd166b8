"""One run at a tracker. A tracker is told what happens and never decides anything: whatever goes
wrong with it costs a bounded wait and a warning, not the run."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from glm_experiments.config import (
    DisabledConfig,
    TensorboardConfig,
    TrackingConfig,
    TrackioConfig,
    WandbConfig,
)
from glm_experiments.nesting import flatten_values
from glm_experiments.record.errors import status_of
from glm_experiments.tracking.description import RunDescription, one_line
from glm_experiments.tracking.faults import Faults, faults_of
from glm_experiments.tracking.local_trackers import TensorboardTracker, TrackioTracker
from glm_experiments.tracking.wandb_tracker import read_wandb_mode, start_wandb

log = logging.getLogger(__name__)

PACKAGES = {WandbConfig: "wandb", TensorboardConfig: "tensorboard", TrackioConfig: "trackio"}


class Tracker(Protocol):
    """One run at one tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def summarise(self, values: Mapping[str, Any]) -> None: ...

    def log_adapter(self, folder: Path) -> None: ...

    def finish(self, *, failed: bool) -> None: ...


class TrackedRun:
    """Tells a tracker about a run until the tracker fails; None: tells nobody.

    As a context it finishes with the block and says how that ended, as the run's record does.
    faults: what a tracker raises that is at fault itself.
    """

    def __init__(self, tracker: Tracker | None, *, faults: Faults) -> None:
        self._tracker = tracker
        self._faults = faults

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of a step, such as `train/loss`; steps may repeat, and go back after a resume."""
        self._tell(lambda tracker: tracker.log(step, values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """What the run came to; nested keys are joined by a slash."""
        self._tell(lambda tracker: tracker.summarise(flatten_values(values, separator="/")))

    def log_adapter(self, folder: Path) -> None:
        """Keep the adapter's files with the run, where the config chose so."""
        self._tell(lambda tracker: tracker.log_adapter(folder))

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.summarise({"status": status_of(error)})
        self._tell(lambda tracker: tracker.finish(failed=error is not None))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except self._faults() as error:
            self._tracker = None
            log.warning(
                "tracking ends here (%s); the run goes on, and its folder has everything",
                one_line(error),
            )


def open_tracked_run(config: TrackingConfig, description: RunDescription) -> TrackedRun:
    """One run at the tracker of `config`; a tracker that can't start is warned of and left out."""
    faults = faults_of(PACKAGES.get(type(config)))
    try:
        tracker = start_tracker(config, description, faults=faults)
    except faults() as error:
        log.warning("tracking=%s can't start and is left out: %s", config.name, one_line(error))
        tracker = None
    return TrackedRun(tracker, faults=faults)


def untracked() -> TrackedRun:
    """A run that nobody is told of."""
    return TrackedRun(None, faults=faults_of(None))


def check_tracker(config: TrackingConfig) -> None:
    """Find out before the work begins what would keep the tracker from starting.

    Raises:
        RuntimeError: its package is missing.
        ValueError: WANDB_MODE names no mode.
    """
    package = PACKAGES.get(type(config))
    if package is not None and importlib.util.find_spec(package) is None:
        raise RuntimeError(
            f"tracking={config.name} needs the package {package}; type pip install {package}, or "
            "tracking=disabled"
        )
    if isinstance(config, WandbConfig):
        read_wandb_mode()


def start_tracker(
    config: TrackingConfig, description: RunDescription, *, faults: Faults
) -> Tracker | None:
    """The tracker of `config`; None where it is disabled."""
    match config:
        case WandbConfig():
            return start_wandb(config, description, faults=faults)
        case TensorboardConfig():
            return TensorboardTracker(description)
        case TrackioConfig():
            return TrackioTracker(config, description)
        case DisabledConfig():
            return None
        case _:
            raise AssertionError(f"no tracker for {type(config).__name__}")
