"""A model section -> a tokenizer and a model ready to be tuned, pretrained or of new weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from glm_experiments.config import ModelConfig, Weights
from glm_experiments.models.architectures.loss import apply_label_only_loss
from glm_experiments.models.building import build_config, build_model
from glm_experiments.models.loading import load_model
from glm_experiments.models.published import locations
from glm_experiments.models.published.layout_finding import find_layout
from glm_experiments.models.published.layouts import Layout
from glm_experiments.models.published.locations import find_model_folder
from glm_experiments.models.published.settings_files import blame
from glm_experiments.models.tokenizers.tokenizer_loading import load_tokenizer
from glm_experiments.models.tokenizers.tokenizer_training import build_tokenizer_files
from glm_experiments.models.tokenizers.vocabulary_match import check_vocabulary
from glm_experiments.tokenizer_protocol import Tokenizer


def prepare_tokenizer(config: ModelConfig, *, texts: Iterable[str], folder: Path) -> Tokenizer:
    """The model's own tokenizer; with random weights one that is built from `texts`.

    Args:
        folder: where a tokenizer that is built is kept.

    Raises:
        ValueError: for a path without a known tokenizer.
    """
    if config.weights is Weights.pretrained:
        return load_tokenizer(config.path, revision=config.revision)
    assert config.vocabulary_size is not None
    if not folder.is_dir():
        is_version_1 = config.geometry.get("model_type") == "chatglm"
        folder.mkdir(parents=True)
        build_tokenizer_files(
            texts,
            vocabulary_size=config.vocabulary_size,
            folder=folder,
            generation="chatglm" if is_version_1 else "chatglm3",
        )
    return load_tokenizer(str(folder))


def check_context_length(config: ModelConfig, context_length: int) -> int | None:
    """Hold the length that samples may have against what the model was made for; returns that.

    Raises:
        ValueError: where they may be longer, or the model can't be read.
    """
    longest = find_longest_context(config)
    if longest is not None and context_length > longest:
        raise ValueError(
            f"data.context_length={context_length}, but {config.path} was made for at most "
            f"{longest} tokens; type data.context_length={longest}, or a model for longer contexts"
        )
    return longest


def find_longest_context(config: ModelConfig) -> int | None:
    """Tokens that the model was made for, with its checkpoint's rope scaling; None: it doesn't say.

    Of a hub id only the configuration is fetched.

    Raises:
        ValueError: for what can't be loaded.
    """
    if config.weights is Weights.random:
        native: Any = build_config(config.geometry, tokenizer=None)
    else:
        native = read_layout(config)[0].config
    longest: int | None = getattr(native, "max_position_embeddings", None)
    rope = getattr(native, "rope_parameters", None) or {}
    # As transformers means it: a scaling stretches the length that the model was first made for.
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    if longest is None or not original or not factor:
        return longest
    return max(longest, int(original * factor))


def read_layout(config: ModelConfig) -> tuple[Layout, Path]:
    """What config.json says of pretrained weights, and that file; nothing else of a hub id is
    fetched.

    Raises:
        ValueError: for what can't be loaded.
    """
    folder = find_model_folder(config.path, revision=config.revision, patterns=[["config.json"]])
    return find_layout(folder, name=config.path), folder / "config.json"


def outline_model(config: ModelConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    """The model's modules and shapes without its numbers, on `meta`; of a hub id only the
    configuration is fetched.

    Raises:
        ValueError: for what can't be loaded.
    """
    dtype = getattr(torch, config.dtype)
    if config.weights is Weights.random:
        return build_model(
            config.geometry,
            tokenizer=tokenizer,
            dtype=dtype,
            seed=0,
            attn_implementation=config.attn_implementation,
            device="meta",
        )
    layout, file = read_layout(config)
    with blame(file), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            layout.config, dtype=dtype, attn_implementation=str(config.attn_implementation)
        )
    return model


def prepare_model(
    config: ModelConfig, tokenizer: Tokenizer, *, device_map: Mapping[str, str], seed: int
) -> PreTrainedModel:
    """Load or build the model, on its devices, with a loss over labelled positions only.

    Raises:
        ValueError: for what can't be loaded, or doesn't belong to the tokenizer.
        RuntimeError: for what the device can't do.
    """
    dtype = getattr(torch, config.dtype)
    if config.weights is Weights.random:
        model = build_model(
            config.geometry,
            tokenizer=tokenizer,
            dtype=dtype,
            seed=seed,
            attn_implementation=config.attn_implementation,
        )
        for name, device in device_map.items():
            model.get_submodule(name).to(device)
    else:
        model = load_model(
            config.path,
            dtype=dtype,
            device_map=device_map,
            revision=config.revision,
            attn_implementation=config.attn_implementation,
            dequantize=config.dequantize,
        )
    check_vocabulary(tokenizer, model.config)
    return apply_label_only_loss(model)


def find_commit(config: ModelConfig) -> str | None:
    """Which commit of a hub's model was loaded; None for weights from elsewhere."""
    if config.weights is Weights.random:
        return None
    return locations.find_commit(config.path, revision=config.revision)
