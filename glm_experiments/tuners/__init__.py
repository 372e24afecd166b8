"""Which parameters of a model move: model + tuner config -> trainable model; adapter -> model."""

from glm_experiments.tuners.adapters import TunerAdapter, load_adapter, save_adapter
from glm_experiments.tuners.tuning import (
    apply_tuner,
    can_merge,
    fold_adapter,
    fold_projection,
    merge_adapter,
    settle_precision,
)
from glm_experiments.tuners.weights import count_parameters, trainable_parameters

__all__ = [
    "TunerAdapter",
    "apply_tuner",
    "can_merge",
    "count_parameters",
    "fold_adapter",
    "fold_projection",
    "load_adapter",
    "merge_adapter",
    "save_adapter",
    "settle_precision",
    "trainable_parameters",
]
