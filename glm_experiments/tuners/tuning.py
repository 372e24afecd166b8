"""Model and tuner config -> the model with exactly the tuner's parameters trainable."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from transformers import PreTrainedModel

from glm_experiments.config import OwnWeights, TunerConfig
from glm_experiments.tuners.choosing import choose_tuner
from glm_experiments.tuners.origins import (
    Origin,
    check_plain,
    describe_base,
    find_origin,
    remember_origin,
)
from glm_experiments.tuners.weights import trainable_parameters


def apply_tuner(model: PreTrainedModel, config: TunerConfig, *, seed: int = 0) -> PreTrainedModel:
    """Make `model` trainable as `config` says, in place; it keeps its class and its devices.

    New parameters are drawn from `seed` alone. What doesn't train has requires_grad False.

    Raises:
        ValueError: for settings that don't fit the model, or a model that is tuned already.
    """
    check_plain(model)
    tuner, base = choose_tuner(type(config)), describe_base(model)
    own = {name for name, _ in model.named_parameters()}
    tuner.apply(model, config, seed=seed)
    trained = frozenset(trainable_parameters(model))
    check_trained(trained, own=own, config=config)
    settings = asdict(config)
    remember_origin(model, Origin(tuner=tuner, settings=settings, base=base, trained=trained))
    return model


def check_trained(trained: frozenset[str], *, own: set[str], config: TunerConfig) -> None:
    """What trains must be what the config's type says: precision and gradients are planned by it.

    own: names of the parameters that the model had before.
    """
    is_enough = config.own_weights is not OwnWeights.all or trained >= own
    is_true = config.trains_own_weights == bool(trained & own) and is_enough
    assert is_true, (
        f"{type(config).__name__} says that it trains {config.own_weights} of the model's own "
        f"weights; it trains {len(trained & own)} of {len(own)}"
    )


def settle_precision(model: PreTrainedModel) -> PreTrainedModel:
    """Give what trained the precision that `load_adapter` gives a saved state, in place.

    It may have trained in a wider one than the base's, in which it is saved and goes on.
    """
    origin = find_origin(model)
    assert origin is not None
    origin.tuner.settle(model, dtype=getattr(torch, origin.base.dtype))
    return model


def merge_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Turn a tuned model into a plain one of the base's class and precision, in place.

    Raises:
        ValueError: where there is nothing to merge, or nothing that it could be merged into.
    """
    origin = find_origin(model)
    if origin is None:
        raise ValueError(f"{model.name_or_path} carries no adapter; load one first")
    if origin.tuner.unmergeable is not None:
        raise ValueError(origin.tuner.unmergeable)
    origin.tuner.merge(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, origin.base.dtype))
        parameter.requires_grad_(False)
    remember_origin(model, None)
    return model


def can_merge(model: PreTrainedModel) -> bool:
    """Whether what was trained can become part of the model's own weights."""
    origin = find_origin(model)
    return origin is not None and origin.tuner.unmergeable is None


def fold_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Replace what only training needed by what it comes to, where there is any, in place."""
    origin = find_origin(model)
    if origin is None or (settings := origin.tuner.fold(model, origin.settings)) is None:
        return model
    trained = origin.trained & dict(model.named_parameters()).keys()
    remember_origin(model, replace(origin, settings=settings, trained=trained))
    return model


def fold_projection(model: PreTrainedModel) -> PreTrainedModel:
    """Replace a projected prefix by the keys and values that it comes to, in place.

    Raises:
        ValueError: for a model without a projected prefix.
    """
    before = find_origin(model)
    if find_origin(fold_adapter(model)) is before:
        raise ValueError(f"{model.name_or_path} carries no prefix with a projection to fold")
    return model
