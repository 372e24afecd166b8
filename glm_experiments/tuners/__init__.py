"""Which parameters of a model move: model + tuner config -> trainable model; adapter -> model."""

from glm_experiments.tuners.adapters import TunerAdapter, load_adapter, save_adapter
from glm_experiments.tuners.tuning import (
    apply_tuner,
    count_parameters,
    fold_projection,
    merge_adapter,
    trainable_parameters,
)

__all__ = [
    "TunerAdapter",
    "apply_tuner",
    "count_parameters",
    "fold_projection",
    "load_adapter",
    "merge_adapter",
    "save_adapter",
    "trainable_parameters",
]
