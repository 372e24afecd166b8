"""Freezing: the last blocks train as they are, the rest stays."""

from __future__ import annotations

from transformers import PreTrainedModel

from glm_experiments.config import FreezeConfig
from glm_experiments.tuners.blocks import apply_freeze, end_mixed_precision, find_blocks
from glm_experiments.tuners.tuner import Tuner


class Freeze(Tuner[FreezeConfig]):
    """Trains the last blocks."""

    def apply(self, model: PreTrainedModel, config: FreezeConfig, *, seed: int) -> None:
        """Make the last blocks trainable and freeze the rest.

        Raises:
            ValueError: where the model has fewer blocks.
        """
        apply_freeze(model, config)

    def insert(self, model: PreTrainedModel, config: FreezeConfig) -> None:
        """Make the last blocks trainable, each in the precision that it has."""
        model.requires_grad_(False)
        for block in find_blocks(model)[-config.num_trainable_layers :]:
            block.requires_grad_(True)

    def merge(self, model: PreTrainedModel) -> None:
        """Leave the weights where they are; one precision for all needs no casting in between."""
        end_mixed_precision(model)
