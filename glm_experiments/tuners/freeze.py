"""Freezing: the last layers train as they are, the rest stays."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from glm_experiments.config import FreezeConfig
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.own_weights import apply_freeze, end_mixed_precision


class Freeze(Tuner[FreezeConfig]):
    """Trains the last layers."""

    def apply(self, model: PreTrainedModel, config: FreezeConfig, *, seed: int) -> None:
        """Make the last layers trainable and freeze the rest.

        Raises:
            ValueError: where the model has fewer layers.
        """
        apply_freeze(model, config)

    def insert(self, model: PreTrainedModel, config: FreezeConfig) -> None:
        """Make the last layers trainable, each in the precision that it has."""
        model.requires_grad_(False)
        for layer in find_layers(model)[-config.num_trainable_layers :]:
            layer.requires_grad_(True)

    def settle(self, model: PreTrainedModel, *, dtype: torch.dtype) -> None:
        """Give the last layers the precision of the others."""
        super().settle(model, dtype=dtype)
        end_mixed_precision(model)

    def merge(self, model: PreTrainedModel) -> None:
        """Leave the weights where they are; one precision for all needs no casting in between."""
        end_mixed_precision(model)
