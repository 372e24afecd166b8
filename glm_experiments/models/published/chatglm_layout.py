"""ChatGLM-6B as published, for `ChatGLMForCausalLM`, whose tensors have the published names.

Knows the published keys and nothing of files. The arguments are those of the later layout's module.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.published.layouts import Converter

# The model computes its own; the published code kept one in every layer.
_NOT_NEEDED = re.compile(r"transformer\.(layers\.\d+\.attention\.)?rotary_emb\.inv_freq")
_KEPT = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "bos_token_id",
    "eos_token_id",
    "use_cache",
    "position_encoding_2d",
    "multi_query_attention",
    "initializer_range",
    "tie_word_embeddings",
    *ChatGLMConfig.attribute_map,
    *ChatGLMConfig.attribute_map.values(),
)

KEYS = (
    *(*_KEPT, "gmask_token_id", "mask_token_id", "pad_token_id", "model_type", "architectures"),
    *("pre_seq_len", "prefix_projection", "quantization_bit", "quantization_embeddings"),
)
"""Of published files, read here or not."""


def build_config(settings: Mapping[str, Any], *, name: str) -> ChatGLMConfig:  # noqa: ARG001
    """The native config for a published `config.json`, or one that a native model wrote.

    The first release does not name the tokens before `<sop>`, which lie as far from `<eop>` as
    today's; its vocabulary begins with 20000 image tokens, and so its padding after them.

    Raises:
        ValueError: a setting that the model does not have, such as another generation's.
        KeyError: a key that every published file has.
    """
    if "num_hidden_layers" in settings:
        return ChatGLMConfig.from_dict(drop_published_keys(settings))  # a native model's, whole
    kept = {key: settings[key] for key in _KEPT if settings.get(key) is not None}
    end = settings["eos_token_id"]
    end = end[0] if isinstance(end, list) else end
    special = {
        "mask_token_id": end - 5,
        "gmask_token_id": end - 4,
        "pad_token_id": 20003 if end == 150005 else 3,
    }
    named = {key: settings[key] for key in special if settings.get(key) is not None}
    return ChatGLMConfig(**kept, **(special | named), architectures=["ChatGLMForCausalLM"])


def add_published_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A native model's settings under the published names as well, for software that has those."""
    published = {old: settings[new] for old, new in ChatGLMConfig.attribute_map.items()}
    return {**settings, **published, "position_encoding_2d": True}


def drop_published_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The native ones of settings that have both.

    Raises:
        ValueError: two of them contradict each other.
    """
    for old, new in ChatGLMConfig.attribute_map.items():
        if old in settings and settings[old] != settings.get(new, settings[old]):
            raise ValueError(
                f"config.json has {old}={settings[old]} and {new}={settings[new]}, which are one "
                "setting; correct one of them"
            )
    return {key: value for key, value in settings.items() if key not in ChatGLMConfig.attribute_map}


def build_converter(config: ChatGLMConfig) -> Converter:  # noqa: ARG001
    """Every tensor under its own name, but for the rotary tables."""

    def convert(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
        return [] if _NOT_NEEDED.fullmatch(name) else [(name, tensor)]

    return convert
