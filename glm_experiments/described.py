"""What the stages of a run came to -> the record's words for it. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from glm_experiments.config import EvaluationConfig, ModelConfig
from glm_experiments.data.encoding import EncodedSplits, hash_measured
from glm_experiments.data.splits import Splits
from glm_experiments.evaluation import Evaluation
from glm_experiments.models.preparation import find_commit
from glm_experiments.training.loop import TrainingResult
from glm_experiments.training.memory import Peaks
from glm_experiments.tuners import count_parameters

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


def describe_data(
    splits: Splits, encoded: EncodedSplits, config: EvaluationConfig
) -> dict[str, Any]:
    """The record's hashes of all rows, of those that train, and of what each set measures."""
    return {
        "fingerprint": splits.fingerprint,
        "trained": encoded.trained_fingerprint,
        "measured": {
            name: hash_measured(validation, num_questions=config.num_rows)
            for name, validation in encoded.validation.items()
        },
    }


def describe_model(config: ModelConfig) -> dict[str, Any]:
    """The record's word on the model that was loaded."""
    return {"path": config.path, "revision": find_commit(config), "dtype": config.dtype}


def describe_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters train, logged and for the record."""
    trainable, total = count_parameters(model)
    log.info(
        f"{trainable:,} of {total:,} parameters train ({100 * trainable / total:.3g} %)",
    )
    return {"trainable_parameters": trainable, "total_parameters": total}


def describe_training(result: TrainingResult) -> dict[str, Any]:
    """The record's figures of a training."""
    figures = {field.name: getattr(result, field.name) for field in fields(result)}
    losses = figures.pop("validation_losses")
    del figures["state"]
    return figures | {"validation": {name: {"loss": loss} for name, loss in losses.items()}}


def describe_memory(peaks: Mapping[str, Peaks]) -> dict[str, Any]:
    """The record's peaks: of the training, and of every stage beside it."""
    return {"peak_memory_bytes": peaks["training"], "stage_peak_memory_bytes": peaks}


def describe_evaluation(when: str, evaluation: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The record's metrics of every set; nothing where nothing was measured."""
    metrics = {name: each.figures() for name, each in evaluation.items()}
    return {when: metrics} if metrics else {}
