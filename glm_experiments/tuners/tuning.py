"""Model and tuner config -> the model with exactly the tuner's parameters trainable."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import (
    FreezeConfig,
    FullConfig,
    LoraConfig,
    PTuningV2Config,
    TunerConfig,
)
from glm_experiments.tuners.lora import apply_lora, merge_lora
from glm_experiments.tuners.origins import (
    Origin,
    check_plain,
    describe_base,
    find_origin,
    remember_origin,
)
from glm_experiments.tuners.own_weights import apply_freeze, apply_full, end_mixed_precision
from glm_experiments.tuners.p_tuning_v2 import apply_p_tuning_v2, fold_prefixes


def apply_tuner(model: PreTrainedModel, config: TunerConfig, *, seed: int = 0) -> PreTrainedModel:
    """Make `model` trainable as `config` says, in place; it keeps its class and its devices.

    New parameters are drawn from `seed` alone. What doesn't train has requires_grad False.

    Raises:
        ValueError: for settings that don't fit the model, or a model that is tuned already.
    """
    check_plain(model)
    base = describe_base(model)
    match config:
        case LoraConfig():
            apply_lora(model, config, seed=seed)
        case PTuningV2Config():
            apply_p_tuning_v2(model, config, seed=seed)
        case FreezeConfig():
            apply_freeze(model, config)
        case FullConfig():
            apply_full(model, config)
        case _:
            raise AssertionError(config)
    trained = frozenset(trainable_parameters(model))
    remember_origin(model, Origin(tuner=asdict(config), base=base, trained=trained))
    return model


def merge_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Turn a tuned model into a plain one of the base's class and precision, in place.

    Raises:
        ValueError: where there is nothing to merge, or nothing that it could be merged into.
    """
    origin = find_origin(model)
    if origin is None:
        raise ValueError(f"{model.name_or_path} carries no adapter; load one first")
    if origin.tuner["name"] == "p_tuning_v2":
        raise ValueError(
            "a prefix has no weights of the model to be merged into; keep it as an adapter, "
            "with fold_projection where it has a projection"
        )
    if origin.tuner["name"] == "lora":
        merge_lora(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, origin.base.dtype))
        parameter.requires_grad_(False)
    end_mixed_precision(model)
    remember_origin(model, None)
    return model


def fold_projection(model: PreTrainedModel) -> PreTrainedModel:
    """Replace a projected prefix by the keys and values that it comes to, in place.

    Raises:
        ValueError: for a model without a projected prefix.
    """
    origin = find_origin(model)
    if origin is None or not origin.tuner.get("prefix_projection"):
        raise ValueError(f"{model.name_or_path} carries no prefix with a projection to fold")
    names = fold_prefixes(model)
    tuner = {**origin.tuner, "prefix_projection": False}
    remember_origin(model, Origin(tuner=tuner, base=origin.base, trained=frozenset(names)))
    return model


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable parameters and of all."""
    trainable = sum(each.numel() for each in trainable_parameters(model).values())
    return trainable, sum(each.numel() for each in model.parameters())
