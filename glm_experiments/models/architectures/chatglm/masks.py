"""Two-axis positions -> the attention mask of version 1, as the chosen implementation wants it.

Everybody sees the whole context and, in the answer, what came before; packed sequences do not see
each other. Made once a batch, on the device and without a sync.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from glm_experiments.models.attention import PREFIX

Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def build_attention_mask(
    implementation: str,
    position_ids: torch.Tensor,
    *,
    attention_mask: torch.Tensor | BlockMask | None,
    num_keys: int,
    num_past: int | torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor | BlockMask | None:
    """Mask for queries at `position_ids` and the keys of the cache and their own.

    Args:
        implementation: flex_attention (wants a BlockMask), eager or sdpa (an additive mask, since
            sdpa would convert a boolean one in every layer); any of them after `prefix_`.
        position_ids: (batch, 2, length), of the queries.
        attention_mask: (batch, keys), 0 on padding; or a ready mask (batch, 1, length, keys),
            boolean (True = seen) or additive, or a BlockMask.
        num_keys: of the cache as far as it goes (a static one: all of it), and the new ones.
        num_past: keys in the cache that came before these queries.
        dtype: of an additive result.

    Returns: (batch, 1, length, keys), a BlockMask, or None where all is seen.
    """
    implementation = implementation.removeprefix(PREFIX)
    if isinstance(attention_mask, BlockMask):
        return attention_mask
    if attention_mask is not None and attention_mask.dim() == 4:
        return _as_additive(attention_mask, dtype)
    length = position_ids.shape[-1]
    visible = None
    if attention_mask is not None:
        visible = attention_mask.to(device=position_ids.device, dtype=torch.bool)
        visible = nn.functional.pad(visible, (0, num_keys - visible.shape[-1]))
    if (
        length == 1
        and not isinstance(num_past, torch.Tensor)
        and implementation != "flex_attention"
    ):
        return None if visible is None else _as_additive(visible[:, None, None], dtype)
    rule = _build_rule(position_ids, visible, num_keys=num_keys, num_past=num_past)
    batch, device = position_ids.shape[0], position_ids.device
    if implementation == "flex_attention":
        return create_block_mask(rule, batch, None, length, num_keys, device=device)
    rows = torch.arange(batch, device=device)[:, None, None, None]
    queries = torch.arange(length, device=device)[:, None]
    keys = torch.arange(num_keys, device=device)
    return _as_additive(rule(rows, rows, queries, keys), dtype)


def _build_rule(
    position_ids: torch.Tensor,
    visible: torch.Tensor | None,
    *,
    num_keys: int,
    num_past: int | torch.Tensor,
) -> Rule:
    """Whether a query sees a key, by indices (row, head, query, key) of any broadcasting shape."""
    length = position_ids.shape[-1]
    axis_1 = position_ids[:, 1]
    # Within a sequence axis 1 stays 0 or grows.
    is_next = (axis_1[:, 1:] <= axis_1[:, :-1]) & (axis_1[:, :-1] > 0)
    query_sequence = nn.functional.pad(is_next, (1, 0)).cumsum(-1)
    is_context = axis_1 == 0
    key_sequence = query_sequence
    if num_keys != length or isinstance(num_past, torch.Tensor):
        # Keys of the cache belong to the first sequence; nobody looks beyond the new ones.
        new = torch.arange(num_keys, device=axis_1.device) - num_past
        inside = new.clamp(0, length - 1).expand(axis_1.shape[0], -1)
        key_sequence = query_sequence.gather(1, inside)
        is_context = is_context.gather(1, inside) & (new < length)

    def sees(
        row: torch.Tensor, _: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        seen = (key <= query + num_past) | is_context[row, key]
        seen = seen & (query_sequence[row, query] == key_sequence[row, key])
        if visible is None:
            return seen
        # Padding sees itself: without any key, its rows would have no softmax.
        return (seen & visible[row, key]) | (key == query + num_past)

    return sees


def _as_additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
