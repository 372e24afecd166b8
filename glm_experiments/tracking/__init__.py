"""Where a run shows itself beside others: wandb, tensorboard or trackio, or nowhere."""

from glm_experiments.tracking.description import RunDescription, describe_swept_keys, run_id_for
from glm_experiments.tracking.tracked_run import (
    TrackedRun,
    check_tracker,
    open_tracked_run,
    untracked,
)

__all__ = [
    "RunDescription",
    "TrackedRun",
    "check_tracker",
    "describe_swept_keys",
    "open_tracked_run",
    "run_id_for",
    "untracked",
]
