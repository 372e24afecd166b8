"""Applies activation checkpointing to a model, by whichever of its names the library has."""

from __future__ import annotations

from transformers import PreTrainedModel

from glm_experiments.config import TrainingConfig

# The model's method, and its argument, by which `training.extra` knows it, too. transformers
# renames the second pair to the first.
NAMES = (
    ("activation_checkpointing_enable", "activation_checkpointing_kwargs"),
    ("gradient_checkpointing_enable", "gradient_checkpointing_kwargs"),
)


def apply_activation_checkpointing(
    model: PreTrainedModel, config: TrainingConfig
) -> PreTrainedModel:
    """Let a tuned model recompute its layers in the backward pass where `config` says so, in place.

    Arguments of `torch.utils.checkpoint` come from `training.extra`, as for transformers' Trainer.
    """
    if not config.activation_checkpointing:
        return model
    method, argument = next(names for names in NAMES if hasattr(model, names[0]))
    given = [config.extra[key] for _, key in NAMES if key in config.extra]
    settings = dict(given[0] or {}) if given else {}
    # Not the checkpoint function's own; only newer releases know them.
    options = {key: settings.pop(key) for key in ("every_n_layers", "offload") if key in settings}
    getattr(model, method)(**{argument: settings or None}, **options)
    return model
