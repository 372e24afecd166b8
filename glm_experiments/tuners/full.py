"""Full tuning: every parameter trains, and what is saved is a whole model."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from glm_experiments.config import FullConfig
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.own_weights import train_in


class Full(Tuner[FullConfig]):
    """Trains every parameter."""

    def apply(self, model: PreTrainedModel, config: FullConfig, *, seed: int) -> None:
        """Make every parameter trainable."""
        train_in(model, dtype=getattr(torch, config.dtype))

    def insert(self, model: PreTrainedModel, config: FullConfig) -> None:
        """Make every parameter trainable, each in the precision that it has."""
        model.requires_grad_(True)
