"""Weights of the model's own that train, in a precision that need not be the rest's."""

from __future__ import annotations

import torch
from torch import nn


def train_in(module: nn.Module, *, dtype: torch.dtype) -> None:
    """Make a module's parameters trainable and keep them in `dtype`; buffers stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(True)
