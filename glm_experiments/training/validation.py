"""The losses of the validation sets while a training runs: each set has its own, and that of the
first set decides which step was best. Knows a trainer's log, and neither rows nor a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn
from transformers import TrainerState

# A model's loss on each validation set, the one that decides first.
MeasureLosses = Callable[[nn.Module], Mapping[str, float]]

DECIDING = "eval_loss"  # its name in the library
PREFIX, SUFFIX = "validation/", "/loss"


def name_losses(losses: Mapping[str, float]) -> dict[str, float]:
    """Losses by set -> as the library is told of them, and as they are logged."""
    logged = {f"{PREFIX}{name}{SUFFIX}": loss for name, loss in losses.items()}
    return {DECIDING: next(iter(losses.values())), **logged}


def read_losses(logs: Mapping[str, float]) -> dict[str, float]:
    """What `name_losses` made -> losses by set."""
    return {
        key.removeprefix(PREFIX).removesuffix(SUFFIX): value
        for key, value in logs.items()
        if key.startswith(PREFIX)
    }


def last_losses(state: TrainerState) -> dict[str, float]:
    """The losses by set that a state knows of, of its last evaluation."""
    evaluations = [entry for entry in state.log_history if DECIDING in entry]
    return read_losses(evaluations[-1]) if evaluations else {}


def count_worse(state: TrainerState) -> int:
    """Evaluations since the best one, up to a saved state."""
    losses = [entry[DECIDING] for entry in state.log_history if DECIDING in entry]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
