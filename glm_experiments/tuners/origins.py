"""Which base an adapter was made for, and whether a model is that base.

A base is known by its kind, its shape and a few of its numbers, so that a moved folder or a mirror
is accepted and another model of the same shape is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from glm_experiments.tuners.interface import Tuner

GEOMETRY = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# ChatGLM2-6B and ChatGLM3-6B have one shape. Not the 6 of chatglm-6b, nor a glm of no number.
_FAMILY = re.compile(r"(?<![a-z])(chatglm(?=-6b|$)|chatglm\d(?=-|_|$)|glm-?\d(?=-|_|$))")
_ATTRIBUTE = "tuner_origin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What an adapter needs to find under it; `sample` is a part of one embedding row."""

    name: str
    model_type: str
    dtype: str
    geometry: dict[str, int]
    sample: list[float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """How a model came to be tuned: by what, with what settings, from which base; what trains."""

    tuner: Tuner[Any]
    settings: dict[str, Any]
    base: Base
    trained: frozenset[str]


def describe_base(model: PreTrainedModel) -> Base:
    """The base that `model`, not yet tuned, is."""
    config = model.config
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, torch.Tensor)
    row = embedding[embedding.shape[0] // 2, :8]
    return Base(
        name=str(model.name_or_path),
        model_type=config.model_type,
        dtype=str(embedding.dtype).removeprefix("torch."),
        geometry={key: getattr(config, key) for key in GEOMETRY if hasattr(config, key)},
        sample=None if row.is_meta else row.detach().float().tolist(),
    )


def check_base(
    expected: Base, model: PreTrainedModel, *, source: Path, replaces_weights: bool
) -> None:
    """Refuse a model that is not the base an adapter was made for.

    Raises:
        ValueError: naming both bases and what differs.
    """
    found = describe_base(model)
    differences = [
        f"{key} is {found.geometry.get(key)} instead of {expected.geometry.get(key)}"
        for key in GEOMETRY
        if found.geometry.get(key) != expected.geometry.get(key)
    ]
    if found.model_type != expected.model_type:
        differences.insert(0, f"it is a {found.model_type}, not a {expected.model_type}")
    if not differences and not replaces_weights and found.sample and expected.sample:
        pair = torch.tensor(found.sample), torch.tensor(expected.sample)
        # Half-precision and quantised releases of one model agree far within this.
        if not torch.allclose(*pair, rtol=0.02, atol=1e-4):
            differences.append("its weights are others")
    if differences:
        raise ValueError(
            f"the adapter {source} was made for {expected.name} and cannot go onto {found.name}: "
            f"{', '.join(differences)}; load {expected.name}, or another copy of it, instead"
        )


def check_name(expected: str | None, model: PreTrainedModel, *, source: Path) -> None:
    """Refuse a base by its name, where an adapter says no more of it: both names are hub ids, or
    folders named by a member of the family.

    Raises:
        ValueError: naming both bases.
    """
    found = str(model.name_or_path)
    names = [
        name
        for name in (expected, found)
        if name and _HUB_ID.fullmatch(name) and not Path(name).is_dir()
    ]
    families = [
        family[0].replace("-", "")
        for name in (expected, found)
        if name and (family := _FAMILY.search(Path(name).name.lower()))
    ]
    # Models moved to other accounts and kept their names.
    if len({name.partition("/")[2].lower() for name in names}) > 1 or len(set(families)) > 1:
        raise ValueError(
            f"the adapter {source} was made for {expected} and cannot go onto {found}; load "
            f"{expected} instead, or correct the name in the adapter's config"
        )


def remember_origin(model: PreTrainedModel, origin: Origin | None) -> None:
    """Note on a model how it was tuned; None: it is plain again."""
    setattr(model, _ATTRIBUTE, origin)


def find_origin(model: PreTrainedModel) -> Origin | None:
    """How a model was tuned; None: it is plain."""
    origin = getattr(model, _ATTRIBUTE, None)
    assert origin is None or isinstance(origin, Origin)
    return origin


def check_plain(model: PreTrainedModel) -> None:
    """Refuse a model that has an adapter.

    Raises:
        ValueError: naming the tuner that it has.
    """
    if (origin := find_origin(model)) is not None:
        raise ValueError(
            f"{model.name_or_path} already carries a {origin.settings['name']} adapter; "
            "load the base afresh, or merge the adapter first"
        )
