"""Applies activation checkpointing to a model, by whichever of its names the library has."""

from __future__ import annotations

from transformers import PreTrainedModel

from glm_experiments.config import TrainingConfig

# transformers renames the second to the first; both are the same switch.
NAMES = ("activation_checkpointing", "gradient_checkpointing")


def apply_activation_checkpointing(
    model: PreTrainedModel, config: TrainingConfig
) -> PreTrainedModel:
    """Let a tuned model recompute its layers in the backward pass where `config` says so, in place.

    Arguments of `torch.utils.checkpoint` come from `training.extra`, as for transformers' Trainer.
    """
    if not config.activation_checkpointing:
        return model
    name = next(each for each in NAMES if hasattr(model, f"{each}_enable"))
    keys = [key for each in NAMES if (key := f"{each}_kwargs") in config.extra]
    settings = dict(config.extra[keys[0]] or {}) if keys else {}
    # Not the checkpoint function's own; only newer releases know them.
    options = {key: settings.pop(key) for key in ("every_n_layers", "offload") if key in settings}
    enable = getattr(model, f"{name}_enable")
    enable(**{f"{name}_kwargs": settings or None}, **options)
    return model
