"""Tuning the model's own weights: all of them, or those of the last blocks."""

from __future__ import annotations

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
    for block in blocks[-config.num_trainable_layers :]:
        train_in(block, dtype=getattr(torch, config.dtype))


def train_in(module: nn.Module, *, dtype: torch.dtype) -> None:
    """Make a module's parameters trainable and keep them in `dtype`; buffers stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(True)
