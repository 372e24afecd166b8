"""Tuning the model's own weights: all of them, or those of the last blocks."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import FreezeConfig, FullConfig


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's transformer blocks, first to last."""
    blocks = model.base_model.layers
    assert isinstance(blocks, nn.ModuleList)
    return blocks


def apply_full(model: PreTrainedModel, config: FullConfig) -> None:
    """Make every parameter trainable."""
    train_in(model, dtype=getattr(torch, config.dtype))


def apply_freeze(model: PreTrainedModel, config: FreezeConfig) -> None:
    """Make the last blocks trainable and freeze the rest.

    Raises:
        ValueError: where the model has fewer blocks.
    """
    blocks = find_blocks(model)
    if config.num_trainable_layers > len(blocks):
        raise ValueError(
            f"tuner.num_trainable_layers={config.num_trainable_layers}, but the model has "
            f"{len(blocks)} layers; type tuner.num_trainable_layers={len(blocks)} or less"
        )
    model.requires_grad_(False)
    base_dtype, dtype = model.dtype, getattr(torch, config.dtype)
    for block in blocks[-config.num_trainable_layers :]:
        train_in(block, dtype=dtype)
    if dtype is not base_dtype:
        model.__class__ = build_mixed_class(type(model))  # type: ignore[arg-type]
        model.base_dtype = base_dtype  # type: ignore[assignment]


def train_in(module: nn.Module, *, dtype: torch.dtype) -> None:
    """Make a module's parameters trainable and keep them in `dtype`; buffers stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(True)


class MixedPrecision:
    """A model whose last blocks are kept in another dtype than the rest, in which it computes.

    Training brings autocast; validation and generation, between and after, don't.
    """

    base_dtype: torch.dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain: Any = super()
        model: Any = self
        with torch.autocast(model.device.type, dtype=self.base_dtype):
            return plain.__call__(*args, **kwargs)


@functools.cache  # one class each
def build_mixed_class(cls: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """`cls` that computes in its base's dtype, under the same name."""
    return type(cls.__name__, (MixedPrecision, cls), {"__module__": cls.__module__})


def end_mixed_precision(model: PreTrainedModel) -> None:
    """Give a model that is of one dtype again its own class."""
    if isinstance(model, MixedPrecision):
        model.__class__ = type(model).__bases__[1]
