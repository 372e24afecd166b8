"""Tuning the model's own weights: all of them, or those of the last layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import FreezeConfig, FullConfig
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.mixing_in import mix_in, take_out


def apply_full(model: PreTrainedModel, config: FullConfig) -> None:
    """Make every parameter trainable."""
    train_in(model, dtype=getattr(torch, config.dtype))


def apply_freeze(model: PreTrainedModel, config: FreezeConfig) -> None:
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


def train_in(module: nn.Module, *, dtype: torch.dtype) -> None:
    """Make a module's parameters trainable and keep them in `dtype`; buffers stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(True)


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


def end_mixed_precision(model: PreTrainedModel) -> None:
    """Give a model that is of one dtype again its own class."""
    take_out(model, MixedPrecision)
