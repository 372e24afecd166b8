"""P-Tuning v2 (arXiv:2110.07602) as published with ChatGLM: every layer owns its prefix.

With the projection a small encoder at the bottom of the model computes what is common to all
layers once a forward pass, and each layer's last linear lives with the layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from glm_experiments.config import PTuningV2Config
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.attention import IMPLEMENTATIONS, PREFIX, chosen_attention
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.prefix_attention import Prefix, ProjectedPrefix

ENCODER = "prefix_encoder"


class PrefixEncoder(nn.Module):
    """What a projection has in common for all layers: embedding, linear, tanh."""

    def __init__(self, num_virtual_tokens: int, *, embedding_width: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_virtual_tokens, embedding_width)
        self.trans = nn.Sequential(nn.Linear(embedding_width, width), nn.Tanh())
        self.hook: RemovableHandle | None = None

    def forward(self) -> torch.Tensor:
        """(virtual tokens, width)"""
        hidden = self.trans(self.embedding.weight)
        assert isinstance(hidden, torch.Tensor)
        return hidden


class PTuningV2(Tuner[PTuningV2Config]):
    """Trains a prefix in every layer."""

    unmergeable = (
        "a prefix has no weights of the model to be merged into; keep it as an adapter, "
        "with fold_projection where it has a projection"
    )

    def apply(self, model: PreTrainedModel, config: PTuningV2Config, *, seed: int) -> None:
        """Give every attention module a trainable prefix and freeze the model.

        Raises:
            ValueError: for an attention implementation that has no form with a prefix.
        """
        insert_prefixes(model, config)
        generator = torch.Generator().manual_seed(seed)
        # The laws of nn.Embedding and nn.Linear, which the published code starts from.
        if config.prefix_projection:
            encoder = find_encoder(model)
            draw_normal(encoder.embedding.weight, generator)
            draw_linear(encoder.trans[0], generator)
        for prefix in find_prefixes(model):
            if isinstance(prefix, ProjectedPrefix):
                draw_linear(prefix, generator)
            else:
                draw_normal(prefix.weight, generator)

    def insert(self, model: PreTrainedModel, config: PTuningV2Config) -> None:
        """Give every attention module a prefix."""
        insert_prefixes(model, config)

    def settle(self, model: PreTrainedModel, *, dtype: torch.dtype) -> None:
        """Leave it: prefixes are loaded in the precision that they trained in."""
        return

    def remove(self, model: PreTrainedModel) -> None:
        """Take the prefixes away."""
        remove_prefixes(model)

    def fold(self, model: PreTrainedModel, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Replace a projected prefix by the keys and values that it comes to."""
        if not settings.get("prefix_projection"):
            return None
        fold_prefixes(model)
        return {**settings, "prefix_projection": False}


def insert_prefixes(model: PreTrainedModel, config: PTuningV2Config) -> None:
    """Insert prefixes with arbitrary numbers; they alone are trainable afterwards."""
    implementation = chosen_attention(model.config)
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"tuner=p_tuning_v2 does not work with attn_implementation={implementation}; type "
            f"model.attn_implementation= one of {', '.join(IMPLEMENTATIONS)}"
        )
    model.requires_grad_(False)
    dtype, shape = getattr(torch, config.dtype), prefix_shape(model, config.num_virtual_tokens)
    width = model.config.hidden_size
    attentions = find_attentions(model)
    for attention in attentions:
        prefix = (
            ProjectedPrefix(shape, width=width, dropout=config.prefix_dropout)
            if config.prefix_projection
            else Prefix(shape, dropout=config.prefix_dropout)
        )
        device = next(attention.parameters()).device
        attention.prefix = prefix.to(device=device, dtype=dtype).train(model.training)
    if config.prefix_projection:
        encoder = PrefixEncoder(
            config.num_virtual_tokens,
            embedding_width=embedding_width(model, shape, num_layers=len(attentions)),
            width=width,
        )
        device = next(attentions[0].parameters()).device
        setattr(model.base_model, ENCODER, encoder.to(device=device, dtype=dtype))
        encoder.hook = model.base_model.register_forward_pre_hook(
            hand_over_hidden, with_kwargs=True
        )
    model.set_attn_implementation(PREFIX + implementation)
    assert chosen_attention(model.config) == PREFIX + implementation


def prefix_shape(model: PreTrainedModel, num_virtual_tokens: int) -> tuple[int, int, int]:
    """(kv heads, virtual tokens, head_dim) of the model's prefixes."""
    config = model.config
    num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return num_heads, num_virtual_tokens, head_dim


def embedding_width(model: PreTrainedModel, shape: tuple[int, int, int], *, num_layers: int) -> int:
    """Width of a projected prefix's embedding: version 1 has the hidden size, later all layers'."""
    if model.config.model_type == "chatglm":
        return int(model.config.hidden_size)
    return 2 * num_layers * shape[0] * shape[2]


def hand_over_hidden(
    base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of the base model: what is common to all layers travels as an argument.

    An argument rather than an attribute: replicas, recomputation and micro batches in flight each
    keep their own, and it follows the activations from device to device.
    """
    return args, {**kwargs, "prefix_hidden": base.get_submodule(ENCODER)()}


@torch.no_grad()
def fold_prefixes(model: PreTrainedModel) -> None:
    """Replace projected prefixes by what they come to, of the same names."""
    encoder = find_encoder(model)
    hidden = encoder()
    for attention in find_attentions(model):
        projected = attention.get_submodule("prefix")
        assert isinstance(projected, ProjectedPrefix)
        prefix = Prefix(projected.shape, dropout=projected.dropout).to(projected.weight)
        prefix.weight.copy_(projected.table(hidden))
        prefix.requires_grad_(False)
        attention.prefix = prefix.train(model.training)
    remove_encoder(model)


def remove_encoder(model: PreTrainedModel) -> None:
    """Take away what projected prefixes have in common."""
    encoder = find_encoder(model)
    assert encoder.hook is not None
    encoder.hook.remove()
    delattr(model.base_model, ENCODER)


def remove_prefixes(model: PreTrainedModel) -> None:
    """Take the prefixes away, if there are any: the model attends as before."""
    implementation = chosen_attention(model.config)
    if not implementation.startswith(PREFIX):
        return
    for attention in find_attentions(model):
        if hasattr(attention, "prefix"):
            del attention.prefix
    if hasattr(model.base_model, ENCODER):
        remove_encoder(model)
    model.set_attn_implementation(implementation.removeprefix(PREFIX))


def find_attentions(model: PreTrainedModel) -> list[nn.Module]:
    """The attention module of every layer."""
    return [
        next(each for each in layer.children() if type(each).__name__.endswith("Attention"))
        for layer in find_layers(model)
    ]


def find_prefixes(model: PreTrainedModel) -> list[Prefix]:
    """The prefix of every layer."""
    prefixes = [attention.get_submodule("prefix") for attention in find_attentions(model)]
    return [prefix for prefix in prefixes if isinstance(prefix, Prefix)]


def find_encoder(model: PreTrainedModel) -> PrefixEncoder:
    """What the projected prefixes have in common."""
    encoder = model.base_model.get_submodule(ENCODER)
    assert isinstance(encoder, PrefixEncoder)
    return encoder


def draw_normal(parameter: torch.Tensor, generator: torch.Generator) -> None:
    """Standard normal numbers, drawn on the CPU so that every device starts alike."""
    parameter.data.copy_(torch.empty(parameter.shape).normal_(generator=generator))


def draw_linear(linear: Any, generator: torch.Generator) -> None:
    """Uniform numbers within 1 / sqrt(inputs), for weight and bias."""
    bound = linear.weight.shape[1] ** -0.5
    for parameter in (linear.weight, linear.bias):
        drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        parameter.data.copy_(drawn)
