"""ChatGLM-6B, version 1: its layers and its causal language model, as transformers builds models.

Modules have the published names, so that published weights are the state dict.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel, initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glm_experiments.models.chatglm.config import ChatGLMConfig
from glm_experiments.models.chatglm.masks import BlockMask, build_attention_mask
from glm_experiments.models.chatglm.positions import (
    build_positions,
    continue_positions,
    find_origin,
    restore_place,
)

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
    **kwargs: Any,
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
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: (batch, length, hidden) -> the same, and weights from eager attention."""
        batch, length, _ = hidden_states.shape
        fused = self.query_key_value(hidden_states).view(batch, length, -1, 3, self.head_dim)
        # Split and unbind have one concatenation as their backward, slices one full copy each.
        query_key, value = fused.split([2, 1], dim=3)
        query, key = apply_rotation(query_key, position_embeddings).unbind(3)
        query, key, value = (each.transpose(1, 2) for each in (query, key, value.squeeze(3)))
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend: Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
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
        **kwargs: Any,
    ) -> torch.Tensor:
        """hidden_states: (batch, length, hidden) -> the same."""
        residual = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attention(
            residual,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        hidden_states = torch.add(hidden_states, residual, alpha=RESIDUAL_SCALE)
        residual = self.post_attention_layernorm(hidden_states)
        return torch.add(self.mlp(residual), residual, alpha=RESIDUAL_SCALE)


class ChatGLMPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the classes below."""

    config: ChatGLMConfig
    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["ChatGLMBlock"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq"]
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs: ClassVar[dict[str, Any]] = {
        "hidden_states": ChatGLMBlock,
        "attentions": ChatGLMAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ChatGLMRotaryEmbedding):
            initialization.copy_(module.inv_freq, module.build_inv_freq())


class ChatGLMModel(ChatGLMPreTrainedModel):
    """The layers between token ids and the last hidden states."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            ChatGLMBlock(config, index) for index in range(config.num_hidden_layers)
        )
        self.final_layernorm = ChatGLMLayerNorm(config.hidden_size, config.layer_norm_eps)
        self.rotary_emb = ChatGLMRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | BlockMask | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states (batch, length, hidden) of token ids (batch, length).

        Args:
            attention_mask: (batch, keys), 0 on padding; or a ready mask (see `masks.py`).
            position_ids: (batch, length) restarting at 0 for each packed sequence, or both axes
                explicitly (batch, 2, length); None: one sequence a row. After a cache, None and
                (batch, length) continue what the cache holds.
            inputs_embeds: (batch, length, hidden) instead of ids; they show no context.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)

        batch, length = inputs_embeds.shape[:2]
        num_past: int | torch.Tensor = 0
        num_keys = length
        if past_key_values is not None:
            num_past = past_key_values.get_seq_length()
            num_keys, _ = past_key_values.get_mask_sizes(length, 0)
        # A static cache counts on the device, where looking would be a sync.
        is_start = length > 1 if isinstance(num_past, torch.Tensor) else num_past == 0
        if position_ids is not None and position_ids.dim() == 3:
            position_ids = position_ids.expand(batch, -1, -1)
        elif is_start or not hasattr(past_key_values, "chatglm_origin"):
            position_ids = self.build_positions(
                inputs_embeds if input_ids is None else input_ids, attention_mask, position_ids
            )
        else:
            position_ids = continue_positions(
                past_key_values.chatglm_origin, begin=num_past, length=length
            )
        if past_key_values is not None and is_start:
            past_key_values.chatglm_origin = find_origin(position_ids, begin=num_past)

        mask = build_attention_mask(
            self.config._attn_implementation,
            position_ids,
            attention_mask=attention_mask,
            num_keys=num_keys,
            num_past=num_past,
            dtype=inputs_embeds.dtype,
        )
        position_embeddings = self.rotary_emb(inputs_embeds, position_ids)
        hidden_states = inputs_embeds
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=position_embeddings,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_layernorm(hidden_states), past_key_values=past_key_values
        )

    def build_positions(
        self,
        tokens: torch.Tensor,
        attention_mask: torch.Tensor | BlockMask | None = None,
        restarting: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Positions (batch, 2, length) of ids (batch, length) or of embeddings; see there."""
        is_padding = isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2
        return build_positions(
            tokens,
            mask_token_id=self.config.mask_token_id,
            gmask_token_id=self.config.gmask_token_id,
            sop_token_id=self.config.bos_token_id,
            attention_mask=attention_mask if is_padding else None,
            restarting=restarting,
        )


class ChatGLMForCausalLM(ChatGLMPreTrainedModel, GenerationMixin):
    """ChatGLM-6B with its head, which is the embedding."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.weight": "transformer.word_embeddings.weight"
    }
    _tp_plan: ClassVar[dict[str, str]] = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | BlockMask | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, length, vocabulary); arguments as for `ChatGLMModel`.

        Args:
            labels: (batch, length), -100 where no loss is wanted; shifted here.
            logits_to_keep: only for that many last positions (0: all), or for these positions.
        """
        outputs: BaseModelOutputWithPast = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    # Generation gives both axes with every call, since later tokens do not show the context.

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.Tensor:
        tokens = model_kwargs.get("input_ids")
        tokens = inputs_tensor if tokens is None or tokens.shape[1] == 0 else tokens
        mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get("past_key_values")
        if mask is not None and mask.shape[-1] > tokens.shape[1] and cache is not None:
            # Only the new tokens are given, the cached ones are not.
            return continue_positions(cache.chatglm_origin, begin=0, length=mask.shape[-1])
        return self.transformer.build_positions(tokens, mask)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, **kwargs: Any
    ) -> dict[str, Any]:
        position_ids = kwargs.get("position_ids")
        if position_ids is not None:
            kwargs["position_ids"] = (
                restore_place(position_ids)
                if position_ids.dim() == 3
                else self.transformer.build_positions(input_ids, kwargs.get("attention_mask"))
            )
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)
        return inputs

    @staticmethod
    def create_masks_for_generate(
        config: ChatGLMConfig,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache,
        position_ids: torch.Tensor,
        **kwargs: Any,
    ) -> torch.Tensor | BlockMask | None:
        """The mask for a static cache, made before the compiled call."""
        num_keys, _ = past_key_values.get_mask_sizes(inputs_embeds.shape[1], 0)
        return build_attention_mask(
            config._attn_implementation,
            position_ids,
            attention_mask=attention_mask,
            num_keys=num_keys,
            num_past=past_key_values.get_seq_length(),
            dtype=inputs_embeds.dtype,
        )
