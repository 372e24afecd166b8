"""P-Tuning v2 checkpoints as THUDM's ptuning scripts save them: `transformer.prefix_encoder.*`.

Published is one table for all layers; here every layer owns its part of it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from glm_experiments.config import PTuningV2Config, TrainableDtype
from glm_experiments.models.published.settings_files import read_settings
from glm_experiments.tuners.origins import check_name
from glm_experiments.tuners.p_tuning_v2 import ENCODER, insert_prefixes
from glm_experiments.tuners.prefix_attention import Prefix
from glm_experiments.tuners.weights import Tensors, fill, read_tensors

CONFIG = "config.json"
WEIGHTS = "pytorch_model.bin"
_PREFIX = "prefix_encoder."
_TABLE = "embedding.weight"
_SHARED = (_TABLE, "trans.0.weight", "trans.0.bias")
_LAST = ("trans.2.weight", "trans.2.bias")


def is_published_prefix(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint of the ptuning scripts."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        return False
    return bool(read_settings(folder / CONFIG).get("pre_seq_len"))


def load_published_prefix(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    """Put a published prefix onto its base, in place; returns the tuner's settings.

    Raises:
        ValueError: where it holds no prefix encoder, or that of another base.
    """
    tensors = {
        name.rpartition(_PREFIX)[2]: tensor
        for name, tensor in read_tensors(folder / WEIGHTS).items()
        if _PREFIX in name
    }
    has_projection = set(tensors) == {*_SHARED, *_LAST}
    if not has_projection and set(tensors) != {_TABLE}:
        raise ValueError(
            f"{folder / WEIGHTS} holds {', '.join(sorted(tensors)) or 'nothing'} under "
            f"transformer.{_PREFIX[:-1]}, not a whole prefix; train it again or take another file"
        )
    is_bfloat16 = tensors[_TABLE].dtype is torch.bfloat16
    config = PTuningV2Config(
        name="p_tuning_v2",
        dtype=TrainableDtype.bfloat16 if is_bfloat16 else TrainableDtype.float32,
        num_virtual_tokens=tensors[_TABLE].shape[0],
        prefix_projection=has_projection,
        prefix_dropout=0.0,  # of training; nothing is trained here
    )
    base = read_settings(folder / CONFIG).get("_name_or_path")
    check_name(base, model, source=folder)
    insert_prefixes(model, config)
    fill(model, split_layers(model, tensors), source=folder, base=base)
    return asdict(config)


def split_layers(model: PreTrainedModel, tensors: Tensors) -> Tensors:
    """Published tensors, by their names after `prefix_encoder.` -> parameters of `model`.

    embedding.weight without projection: (virtual tokens, 2 * layers * kv heads * head_dim), each
    layer's key then value; trans.2 with projection: as many rows.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, Prefix)]
    encoder = f"{model.base_model_prefix}.{ENCODER}"
    if _LAST[0] not in tensors:
        parts = tensors[_TABLE].chunk(len(names), dim=1)
        shape = model.get_submodule(names[0]).shape
        assert isinstance(shape, tuple)
        num_heads, num_virtual_tokens, head_dim = shape
        if parts[0].shape[1] != 2 * num_heads * head_dim or len(parts) != len(names):
            return {f"{names[0]}.weight": tensors[_TABLE]}  # reported by its shape
        return {
            f"{name}.weight": part.reshape(num_virtual_tokens, 2, num_heads, head_dim).permute(
                1, 2, 0, 3
            )
            for name, part in zip(names, parts, strict=True)
        }
    state = {f"{encoder}.{name}": tensors[name] for name in _SHARED}
    for kind in ("weight", "bias"):
        parts = tensors[f"trans.2.{kind}"].chunk(len(names))
        state |= {f"{name}.{kind}": part for name, part in zip(names, parts, strict=False)}
    return state
