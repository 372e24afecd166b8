"""Full tuning: every parameter trains, and what is saved is a whole model."""

from __future__ import annotations

from transformers import PreTrainedModel

from glm_experiments.config import FullConfig
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.own_weights import apply_full


class Full(Tuner[FullConfig]):
    """Trains every parameter."""

    def apply(self, model: PreTrainedModel, config: FullConfig, *, seed: int) -> None:
        """Make every parameter trainable."""
        apply_full(model, config)

    def insert(self, model: PreTrainedModel, config: FullConfig) -> None:
        """Make every parameter trainable, each in the precision that it has."""
        model.requires_grad_(True)
