"""ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B as published, for transformers' `GlmForCausalLM`.

Knows the published keys and tensor names of these three (one layout) and nothing of files.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig

from glm_experiments.models.published.layouts import Converter

ROTARY_BASE = 10000.0

_WHOLE = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_IN_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_LAYER = re.compile(r"transformer\.encoder\.layers\.(\d+)\.(.+)")
_FUSED = re.compile(r"self_attention\.query_key_value\.(weight|bias)")
# The published code rebuilds its table from the settings and reads only this buffer's dtype.
_NOT_NEEDED = "transformer.rotary_pos_emb.inv_freq"

_ONLY_VALUE = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "add_bias_linear": False,
    "multi_query_attention": True,
    "original_rope": True,
}

KEYS = (
    *(*_ONLY_VALUE, "padded_vocab_size", "hidden_size", "ffn_hidden_size", "num_layers"),
    *("num_hidden_layers", "num_attention_heads", "multi_query_group_num", "kv_channels"),
    *("seq_length", "layernorm_epsilon", "add_qkv_bias", "use_cache", "tie_word_embeddings"),
    *("rope_ratio", "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout"),
    *("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "bias_dropout_fusion"),
    *("classifier_dropout", "fp32_residual_connection", "hidden_dropout", "interleaved_qkv"),
    *("model_type", "architectures", "pre_seq_len", "prefix_projection", "quantization_bit"),
    *("vocab_size", "vision_config"),
)
"""Of published files, read here or not."""


def build_config(settings: Mapping[str, Any], *, name: str) -> GlmConfig:
    """The native config for a published `config.json`.

    `name` is the model's path: with `_name_or_path` the only thing that tells ChatGLM2-6B-32K
    from ChatGLM3's long variants, whose settings are alike and whose code is not (see `_rotary`).

    Raises:
        ValueError: a setting that the native module does not have.
    """
    refused = [
        f"{key}={settings[key]!r} (only {value!r} is)"
        for key, value in _ONLY_VALUE.items()
        if settings.get(key, value) != value
    ]
    refused += ["vision_config"] if "vision_config" in settings else []
    if refused:
        raise ValueError(
            f"config.json of {name} has settings that no published ChatGLM2, ChatGLM3 or GLM-4 "
            f"text model has and that are not supported: {', '.join(refused)}"
        )
    optional = {
        key: settings[key]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout")
        if settings.get(key) is not None
    }
    return GlmConfig(
        vocab_size=settings["padded_vocab_size"],
        hidden_size=settings["hidden_size"],
        intermediate_size=settings["ffn_hidden_size"],
        num_hidden_layers=settings.get("num_layers", settings.get("num_hidden_layers")),
        num_attention_heads=settings["num_attention_heads"],
        num_key_value_heads=settings["multi_query_group_num"],
        head_dim=settings["kv_channels"],
        max_position_embeddings=settings["seq_length"],
        rms_norm_eps=settings["layernorm_epsilon"],
        attention_bias=settings.get("add_qkv_bias", False),
        use_cache=settings.get("use_cache", True),
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
        rope_parameters=_rotary(settings, name=name),
        architectures=["GlmForCausalLM"],
        **optional,
    )


def _rotary(settings: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """`rope_ratio` of the long-context variants, as the published `RotaryEmbedding` uses it.

    ChatGLM3 and GLM-4 multiply the base by it; ChatGLM2-6B-32K, the only version 2 that has one,
    divides the positions by it.
    """
    ratio = float(settings.get("rope_ratio") or 1)
    rotary = {"rope_type": "default", "rope_theta": ROTARY_BASE, "partial_rotary_factor": 0.5}
    names = (str(settings.get("_name_or_path")), Path(name).name)
    if ratio != 1 and any("chatglm2-6b-32k" in name.lower() for name in names):
        return rotary | {"rope_type": "linear", "factor": ratio}
    return rotary | {"rope_theta": ROTARY_BASE * ratio}


def build_converter(config: GlmConfig) -> Converter:
    """Names and tensors of the published layout -> those of `GlmForCausalLM`, one at a time.

    The fused `query_key_value` holds all of q, then k, then v along its first axis: weight
    ((heads + 2 * kv heads) * head_dim, hidden). Gate and up stay fused, in the same order.
    """
    assert config.head_dim is not None
    assert config.num_key_value_heads is not None
    kv_rows = config.num_key_value_heads * config.head_dim
    rows = [config.num_attention_heads * config.head_dim, kv_rows, kv_rows]

    def convert(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
        if name == _NOT_NEEDED:
            return []
        if name in _WHOLE:
            return [(_WHOLE[name], tensor)]
        layer = _LAYER.fullmatch(name)
        if layer is None:
            return None
        prefix, rest = f"model.layers.{layer[1]}", layer[2]
        if rest in _IN_LAYER:
            return [(f"{prefix}.{_IN_LAYER[rest]}", tensor)]
        fused = _FUSED.fullmatch(rest)
        if fused is None:
            return None
        if tensor.shape[:1] != (sum(rows),):
            # Unsplit, so that the check of shapes reports it by name.
            return [(f"{prefix}.self_attn.q_proj.{fused[1]}", tensor)]
        parts = zip("qkv", torch.split(tensor, rows), strict=True)
        return [
            (f"{prefix}.self_attn.{part}_proj.{fused[1]}", part_rows) for part, part_rows in parts
        ]

    return convert
