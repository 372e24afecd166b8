"""ChatGLM-6B, version 1: its model and its causal language model, as transformers builds them.

Modules have the published names, so that published weights are the state dict.
"""

# transformers is typed in parts: its decorators, hooks and class variables are not.
# mypy: disable-error-code="no-untyped-call, untyped-decorator, misc, override"
# mypy: disable-error-code="attr-defined, union-attr"

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.architectures.chatglm.layers import (
    ChatGLMAttention,
    ChatGLMBlock,
    ChatGLMLayerNorm,
    ChatGLMRotaryEmbedding,
)
from glm_experiments.models.architectures.chatglm.masks import build_attention_mask
from glm_experiments.models.architectures.chatglm.positions import (
    build_positions,
    continue_positions,
    find_cache_origin,
    restore_place,
)
from glm_experiments.models.attention import chosen_attention

logger = logging.get_logger(__name__)

# What the library calls a cache, of arguments and outputs: the first up to transformers 5.23, the
# second after it. Callers may use either.
OLD_NAME, NEW_NAME = "past_key_values", "cache"
CACHE = NEW_NAME if NEW_NAME in BaseModelOutputWithPast.__dataclass_fields__ else OLD_NAME


class ChatGLMPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the classes below."""

    config: ChatGLMConfig
    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["ChatGLMBlock"]
    _skip_keys_device_placement: ClassVar[list[str]] = [OLD_NAME, NEW_NAME]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq"]
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs: ClassVar[dict[str, Any]] = {
        "hidden_states": ChatGLMBlock,
        "attentions": ChatGLMAttention,
    }

    def __init__(self, config: ChatGLMConfig, *args: Any, **kwargs: Any) -> None:
        if config.foreign_weights is not None:
            raise ValueError(
                f"the weights beside this config.json are {config.foreign_weights}; load them with "
                "glm_experiments.models.load_model(path), or after `import glm_experiments` with "
                "AutoModelForCausalLM"
            )
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ChatGLMRotaryEmbedding):
            initialization.copy_(module.inv_freq, module.build_inv_freq())


class ChatGLMModel(ChatGLMPreTrainedModel):
    """The layers between token ids and the last hidden states."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        size = config.head_dim or 0
        if size % 4 or size * config.num_attention_heads != config.hidden_size:
            raise ValueError(
                f"hidden_size={config.hidden_size} is not num_attention_heads="
                f"{config.num_attention_heads} heads of a size that 4 divides; check config.json"
            )
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
        self.word_embeddings = value  # type: ignore[assignment]

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
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states (batch, length, hidden) of token ids (batch, length).

        Args:
            attention_mask: (batch, keys), 0 on padding; or a ready mask (see `masks.py`).
            position_ids: (batch, length) restarting at 0 for each packed sequence, or both axes
                explicitly (batch, 2, length); None: one sequence a row. After a cache, None and
                (batch, length) continue what the cache holds.
            inputs_embeds: (batch, length, hidden) instead of ids. The context is found by the
                embeddings of the special tokens.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)

        batch, length = inputs_embeds.shape[:2]
        num_past: int | torch.Tensor = 0
        num_keys = length
        if cache is not None:
            num_past = cache.get_seq_length()
            num_keys, _ = cache.get_mask_sizes(length, 0)
        # A static cache counts on the device, where looking would be a sync.
        is_start = length > 1 if isinstance(num_past, torch.Tensor) else num_past == 0
        if position_ids is not None and position_ids.dim() == 3:
            position_ids = position_ids.expand(batch, -1, -1)
        elif is_start or not hasattr(cache, "chatglm_origin"):
            position_ids = self.build_positions(
                inputs_embeds if input_ids is None else input_ids, attention_mask, position_ids
            )
        else:
            position_ids = continue_positions(cache.chatglm_origin, begin=num_past, length=length)
        if cache is not None and is_start:
            cache.chatglm_origin = find_cache_origin(position_ids, begin=num_past)

        mask = build_attention_mask(
            chosen_attention(self.config),
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
                **{CACHE: cache},
                **kwargs,
            )
        named: dict[str, Any] = {CACHE: cache}
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_layernorm(hidden_states), **named
        )

    def build_positions(
        self,
        tokens: torch.Tensor,
        attention_mask: torch.Tensor | BlockMask | None = None,
        restarting: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Positions (batch, 2, length) of ids (batch, length), see `positions.py`; or of embeddings
        (batch, length, hidden), among which those of the special tokens are recognised."""
        if tokens.dim() == 3:
            tokens = self._find_special_tokens(tokens)
        if isinstance(attention_mask, BlockMask) or (
            attention_mask is not None and attention_mask.dim() == 4
        ):
            attention_mask = None  # shows no padding
        return build_positions(
            tokens,
            mask_token_id=self.config.mask_token_id,
            gmask_token_id=self.config.gmask_token_id,
            sop_token_id=self.config.bos_token_id,
            attention_mask=attention_mask,
            restarting=restarting,
        )

    @torch.no_grad()
    def _find_special_tokens(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Ids (batch, length) of the tokens that positions are made of, -1 for all others."""
        device, config = embeddings.device, self.config
        tokens = torch.full(embeddings.shape[:2], -1, device=device)
        for token in (config.mask_token_id, config.gmask_token_id, config.bos_token_id):
            if token is not None and 0 <= token < config.vocab_size:
                own = self.word_embeddings(torch.full((1, 1), token, device=device))
                tokens = tokens.masked_fill((embeddings == own.to(embeddings)).all(-1), token)
        return tokens


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
        cache: Cache | None = None,
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
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **{CACHE: past_key_values if cache is None else cache},
            **kwargs,
        )
        assert outputs.last_hidden_state is not None
        kept = logits_to_keep
        rows = slice(-kept, None) if isinstance(kept, int) else kept
        logits = self.lm_head(outputs.last_hidden_state[:, rows])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )

    # Generation gives both axes with every call, since later tokens do not show the context.

    def _prepare_generation_config(
        self, *args: Any, **kwargs: Any
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        generation_config, model_kwargs = super()._prepare_generation_config(*args, **kwargs)
        if generation_config.prefill_chunk_size is not None:
            logger.warning_once(
                "prefill_chunk_size is left out: a context of ChatGLM-6B is seen from both sides, "
                "so it cannot come in chunks"
            )
            generation_config.prefill_chunk_size = None
        position_ids = model_kwargs.get("position_ids")
        if position_ids is not None and position_ids.dim() == 2:
            del model_kwargs["position_ids"]  # a row is one sequence, and its ids say the rest
        return generation_config, model_kwargs

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.Tensor:
        tokens = model_kwargs.get("input_ids")
        tokens = inputs_tensor if tokens is None or tokens.shape[1] == 0 else tokens
        mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get(CACHE)
        if mask is not None and mask.shape[-1] > tokens.shape[1] and cache is not None:
            # Only the new tokens are given, the cached ones are not.
            return continue_positions(cache.chatglm_origin, begin=0, length=mask.shape[-1])
        return self.transformer.build_positions(tokens, mask)

    def _expand_inputs_for_generation(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        # transformers takes the first of three axes for something else than the batch.
        position_ids = kwargs.pop("position_ids", None)
        expand_size = kwargs.get("expand_size", 1)
        input_ids, expanded = super()._expand_inputs_for_generation(**kwargs)
        if position_ids is not None:
            expanded["position_ids"] = position_ids.repeat_interleave(expand_size, dim=0)
        return input_ids, expanded

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, inputs_embeds: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        position_ids = kwargs.get("position_ids")
        if position_ids is not None and position_ids.dim() == 3:
            kwargs["position_ids"] = restore_place(position_ids)
        plain: Any = super()
        inputs: dict[str, Any] = plain.prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        return inputs

    @staticmethod
    def create_masks_for_generate(
        config: ChatGLMConfig,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        **kwargs: Any,
    ) -> torch.Tensor | BlockMask | None:
        """The mask for a static cache, made before the compiled call."""
        if chosen_attention(config).endswith("flex_attention"):
            return attention_mask  # the caller copies a mask, which a BlockMask cannot
        cache = kwargs[CACHE]
        num_keys, _ = cache.get_mask_sizes(inputs_embeds.shape[1], 0)
        return build_attention_mask(
            chosen_attention(config),
            position_ids,
            attention_mask=attention_mask,
            num_keys=num_keys,
            num_past=cache.get_seq_length(),
            dtype=inputs_embeds.dtype,
        )
