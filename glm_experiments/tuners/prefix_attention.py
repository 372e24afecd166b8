"""Attention with learned keys and values before a layer's own, for every implementation.

The prefix has no positions, is never in the cache, and every query sees all of it. Knows attention
modules that own a `prefix` and nothing of models or tuner settings.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from glm_experiments.models.attention import IMPLEMENTATIONS, PREFIX, chosen_attention

Attended = tuple[torch.Tensor, torch.Tensor | None]


def prefix_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | BlockMask | None,
    *,
    prefix_hidden: torch.Tensor | None = None,
    **kwargs: Any,
) -> Attended:
    """Attend to `module.prefix` and the sequence.

    Args:
        query: (batch, heads, length, head_dim).
        key, value: (batch, kv heads, keys, head_dim).
        attention_mask: as the implementation without prefix takes it, over the sequence's keys.
        prefix_hidden: (virtual tokens, width), what a projected prefix is made from.

    Returns:
        (batch, length, heads, head_dim), and the weights where the implementation has them.
    """
    name = chosen_attention(module.config).removeprefix(PREFIX)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_function(module))
    assert isinstance(module.prefix, Prefix)
    prefix_key, prefix_value = module.prefix(key, hidden=prefix_hidden)
    num_virtual_tokens, length = prefix_key.shape[2], query.shape[2]
    is_causal = kwargs.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if name == "sdpa" and attention_mask is None and is_causal and length > 1:
        # As many queries as keys make "all of the prefix, then causal" plain causal, which needs
        # no mask and no expanded key/value heads. The extra queries' results are dropped.
        key = torch.cat([prefix_key, key[:, :, :length]], dim=2)
        value = torch.cat([prefix_value, value[:, :, :length]], dim=2)
        query = nn.functional.pad(query, (0, 0, num_virtual_tokens, 0))
        attended, weights = attend(module, query, key, value, None, **kwargs)
        return attended[:, num_virtual_tokens:], weights
    key = torch.cat([prefix_key, key], dim=2)
    value = torch.cat([prefix_value, value], dim=2)
    mask = extend_mask(attention_mask, num_virtual_tokens)
    attended, weights = attend(module, query, key, value, mask, **kwargs)
    return attended, weights


def eager_function(module: nn.Module) -> Any:
    """The eager attention that stands beside a module's class."""
    return vars(sys.modules[type(module).__module__]).get("eager_attention_forward")


def extend_mask(
    mask: torch.Tensor | BlockMask | None, num_virtual_tokens: int
) -> torch.Tensor | BlockMask | None:
    """Let every query see the prefix, too; (batch, 1, length, keys) gets keys in front."""
    if mask is None:
        return None
    if isinstance(mask, BlockMask):
        block_mask: BlockMask = extend_block_mask(mask, num_virtual_tokens)
        return block_mask
    visible = True if mask.dtype is torch.bool else 0.0
    extended: torch.Tensor = nn.functional.pad(mask, (num_virtual_tokens, 0), value=visible)
    return extended


@torch.compiler.disable  # type: ignore[untyped-decorator]
def extend_block_mask(mask: BlockMask, num_virtual_tokens: int) -> BlockMask:
    """The same for flex attention; made once a forward pass and kept with the mask."""
    if (kept := getattr(mask, "with_prefix", None)) is not None:
        assert isinstance(kept, BlockMask)
        return kept
    inner = mask.mask_mod

    def sees(
        batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        own_key = (key - num_virtual_tokens).clamp(min=0)
        return (key < num_virtual_tokens) | inner(batch, head, query, own_key)

    length, num_keys = mask.seq_lengths
    extended = create_block_mask(
        sees,
        B=mask.shape[0],
        H=None,
        Q_LEN=length,
        KV_LEN=num_keys + num_virtual_tokens,
        device=mask.kv_indices.device,
        BLOCK_SIZE=mask.BLOCK_SIZE,
    )
    mask.with_prefix = extended  # type: ignore[attr-defined]
    return extended


class Prefix(nn.Module):
    """The learned keys and values of one layer, (2, kv heads, virtual tokens, head_dim)."""

    def __init__(self, shape: tuple[int, int, int], *, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(2, *shape))

    def table(self, hidden: torch.Tensor | None) -> torch.Tensor:
        """Keys and values as they are learned, (2, kv heads, virtual tokens, head_dim)."""
        return self.weight

    def forward(self, key: torch.Tensor, *, hidden: torch.Tensor | None) -> torch.Tensor:
        """Keys and values for the batch of `key`, in its dtype and on its device.

        Returns:
            (2, batch, kv heads, virtual tokens, head_dim)
        """
        table = self.table(hidden).to(device=key.device, dtype=key.dtype)
        expanded = table[:, None].expand(-1, key.shape[0], -1, -1, -1)
        return nn.functional.dropout(expanded, p=self.dropout, training=self.training)


class ProjectedPrefix(Prefix):
    """One layer's share of the projection's last linear, (2 * kv heads * head_dim, width)."""

    def __init__(self, shape: tuple[int, int, int], *, width: int, dropout: float) -> None:
        super().__init__(shape, dropout=dropout)
        num_heads, _, head_dim = shape
        self.weight = nn.Parameter(torch.empty(2 * num_heads * head_dim, width))
        self.bias = nn.Parameter(torch.empty(2 * num_heads * head_dim))

    def table(self, hidden: torch.Tensor | None) -> torch.Tensor:
        """Keys and values from `hidden`, (virtual tokens, width)."""
        assert hidden is not None
        num_heads, num_virtual_tokens, head_dim = self.shape
        flat = nn.functional.linear(hidden.to(self.weight.device), self.weight, self.bias)
        return flat.view(num_virtual_tokens, 2, num_heads, head_dim).permute(1, 2, 0, 3)


for implementation in IMPLEMENTATIONS:
    ALL_ATTENTION_FUNCTIONS.register(PREFIX + implementation, prefix_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(
        PREFIX + implementation, ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    )
