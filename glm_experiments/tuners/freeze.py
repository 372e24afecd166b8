"""Freezing: the last layers train as they are, the rest stays."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from glm_experiments.config import FreezeConfig
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.mixing_in import mix_in, take_out
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.own_weights import train_in


class Freeze(Tuner[FreezeConfig]):
    """Trains the last layers."""

    def apply(self, model: PreTrainedModel, config: FreezeConfig, *, seed: int) -> None:
        """Make the last layers trainable and freeze the rest.

        Raises:
            ValueError: where the model has fewer layers.
        """
        layers = find_layers(model)
        if config.num_trainable_layers > len(layers):
            raise ValueError(
                f"tuner.num_trainable_layers={config.num_trainable_layers}, but the model has "
                f"{len(layers)} layers; type tuner.num_trainable_layers={len(layers)} or less"
            )
        model.requires_grad_(False)
        base_dtype, dtype = model.dtype, getattr(torch, config.dtype)
        for layer in layers[-config.num_trainable_layers :]:
            train_in(layer, dtype=dtype)
        if dtype is not base_dtype:
            mix_in(model, MixedPrecision)
            model.base_dtype = base_dtype  # type: ignore[assignment]

    def insert(self, model: PreTrainedModel, config: FreezeConfig) -> None:
        """Make the last layers trainable, each in the precision that it has."""
        model.requires_grad_(False)
        for layer in find_layers(model)[-config.num_trainable_layers :]:
            layer.requires_grad_(True)

    def settle(self, model: PreTrainedModel, *, dtype: torch.dtype) -> None:
        """Give the last layers the precision of the others."""
        super().settle(model, dtype=dtype)
        take_out(model, MixedPrecision)

    def merge(self, model: PreTrainedModel) -> None:
        """Leave the weights where they are; one precision for all needs no casting in between."""
        take_out(model, MixedPrecision)


class MixedPrecision:
    """A model whose last layers are kept in another dtype than the rest, in which it computes.

    Training brings autocast; validation and generation, between and after, don't.
    """

    base_dtype: torch.dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain: Any = super()
        model: Any = self
        with torch.autocast(model.device.type, dtype=self.base_dtype):
            return plain.__call__(*args, **kwargs)
