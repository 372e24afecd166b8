"""The layers of ChatGLM-6B, version 1, with modules named as published."""

# transformers is typed in parts: its decorators, hooks and class variables are not.
# mypy: disable-error-code="no-untyped-call"

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.attention import chosen_attention

ROTARY_BASE = 10000.0
# The published code writes sqrt(2 * layers), but its layers always count 28 (a default that nobody
# overrides), and the recorded behaviour of smaller models confirms it.
RESIDUAL_SCALE = math.sqrt(2 * 28)
Rotation = tuple[torch.Tensor, torch.Tensor]


class ChatGLMRotaryEmbedding(nn.Module):
    """The rotation of half a head for each of the two axes of positions."""

    inv_freq: torch.Tensor

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("inv_freq", self.build_inv_freq(), persistent=False)

    def build_inv_freq(self) -> torch.Tensor:
        """(head_dim / 4,): rounded to half precision in every precision, as published."""
        assert self.config.head_dim is not None
        dim = self.config.head_dim // 2
        powers = torch.arange(0, dim, 2, dtype=torch.float32) / dim
        return (1.0 / ROTARY_BASE**powers).half().float()

    @torch.no_grad()
    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
        """Cosines (batch, length, 1, 1, 2 axes, 1, head_dim / 4) and sines, negative and positive,
        (batch, length, 1, 1, 2 axes, 2, head_dim / 4) in the dtype of `hidden_states`.

        The published tables: angles in the model's dtype, of bfloat16 ones the cosine in float32.
        """
        dtype = hidden_states.dtype
        angles = position_ids.mT[..., None].to(dtype) * self.inv_freq.to(dtype)
        angles = angles[:, :, None, None, :, None]
        if dtype == torch.bfloat16:
            angles = angles.float()
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return cos, torch.cat([-sin, sin], dim=-2)


def apply_rotation(heads: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Rotate (batch, length, heads, n, head_dim); the first half of head_dim by axis 0.

    Of each half, the first and the second half are the two coordinates.
    """
    cos, sin = (table.to(heads.dtype) for table in rotation)
    pairs = heads.unflatten(-1, (2, 2, -1))
    return torch.addcmul(pairs * cos, pairs.flip(-2), sin).flatten(-3)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,  # noqa: ARG001 - what other implementations need
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in plain operations, for its weights: (batch, heads, length, keys)."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class ChatGLMAttention(nn.Module):
    """Attention with one linear map to query, key and value of head 0, then of head 1, ..."""

    is_causal = False

    def __init__(self, config: ChatGLMConfig, layer_idx: int) -> None:
        super().__init__()
        assert config.head_dim is not None
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.scaling = config.head_dim**-0.5
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: Rotation,
        attention_mask: torch.Tensor | BlockMask | None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: (batch, length, hidden) -> the same, and weights from eager attention."""
        batch, length, _ = hidden_states.shape
        fused = self.query_key_value(hidden_states).view(batch, length, -1, 3, self.head_dim)
        # Split and unbind have one concatenation as their backward, slices one full copy each.
        query_key, value = fused.split([2, 1], dim=3)
        query, key = apply_rotation(query_key, position_embeddings).unbind(3)
        query, key, value = (each.transpose(1, 2) for each in (query, key, value.squeeze(3)))
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend: Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            chosen_attention(self.config), eager_attention_forward
        )
        output, weights = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=0.0, **kwargs
        )
        return self.dense(output.reshape(batch, length, -1)), weights


class ChatGLMMLP(nn.Module):
    """Two linear maps with GELU (by tanh) between them."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dense_4h_to_h = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = nn.functional.gelu(self.dense_h_to_4h(hidden_states), approximate="tanh")
        output: torch.Tensor = self.dense_4h_to_h(hidden_states)
        return output


class ChatGLMLayerNorm(nn.LayerNorm):
    """LayerNorm that keeps the dtype of its input: autocast's float32 result would become the
    residual stream of all that follows."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).to(input.dtype)


class ChatGLMBlock(GradientCheckpointingLayer):
    """A layer whose residuals are its layer norms' outputs, scaled by `RESIDUAL_SCALE`."""

    def __init__(self, config: ChatGLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = ChatGLMLayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = ChatGLMAttention(config, layer_idx)
        self.post_attention_layernorm = ChatGLMLayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = ChatGLMMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | BlockMask | None,
        position_embeddings: Rotation,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """hidden_states: (batch, length, hidden) -> the same; the cache has either name."""
        residual = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attention(
            residual,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            cache=past_key_values if cache is None else cache,
            **kwargs,
        )
        hidden_states = torch.add(hidden_states, residual, alpha=RESIDUAL_SCALE)
        residual = self.post_attention_layernorm(hidden_states)
        return torch.add(self.mlp(residual), residual, alpha=RESIDUAL_SCALE)
