"""Token ids -> the two-axis positions of version 1. Knows no model; runs without a device sync.

Positions say everything about a sequence: its context has 0 on the second axis and its answer
counts there, so that masks are made of them alone (`masks.py`).
"""

import torch


def build_positions(
    tokens: torch.Tensor,
    *,
    mask_token_id: int | None,
    gmask_token_id: int | None,
    sop_token_id: int | None,
    attention_mask: torch.Tensor | None = None,
    restarting: torch.Tensor | None = None,
) -> torch.Tensor:
    """Positions (batch, 2, length) of whole sequences, as the published `get_position_ids`.

    A sequence is a context, with the first [gMASK] in it or else the first [MASK] as the place of
    the answer, and an answer that begins with the first <sop>. Axis 0 counts through the context
    and then stays at that place; axis 1 is 0 in the context and counts from 1 in the answer. A
    sequence without such a context is all answer to an empty one: axis 0 is 0, axis 1 counts.

    Args:
        tokens: (batch, length).
        attention_mask: (batch, length), 0 on padding; a sequence begins at the first 1.
        restarting: (batch, length) for packed rows: a sequence begins at every 0.
    """
    batch, length = tokens.shape
    index = torch.arange(length, device=tokens.device).expand(batch, length)
    visible = torch.ones_like(index, dtype=torch.bool)
    if attention_mask is not None:
        visible = attention_mask.to(device=tokens.device, dtype=torch.bool)
    sequence = torch.zeros_like(index)
    if restarting is not None:
        sequence = (restarting.expand(batch, length) == 0).cumsum(-1)

    def first(flags: torch.Tensor) -> torch.Tensor:
        """Index of the first flagged token of each token's sequence; `length` for none."""
        found = torch.where(flags & visible, index, length)
        table = torch.full((batch, length + 1), length, device=tokens.device)
        return table.scatter_reduce(1, sequence, found, "amin").gather(1, sequence)

    begin = first(visible)
    if sop_token_id is None:
        place = answer = torch.full_like(index, length)
    else:
        answer = first(tokens == sop_token_id)
        place = torch.full_like(index, length)
        for token in (mask_token_id, gmask_token_id):
            if token is not None:
                found = first(tokens == token)
                place = torch.where(found < answer, found, place)
    has_context = (answer < length) & (place < answer)
    answer = torch.where(has_context, answer, begin)
    place = torch.where(has_context, place, begin)
    axis_0 = torch.where(index < answer, index, place) - begin
    axis_1 = index - answer + 1
    return torch.stack([axis_0, axis_1], dim=1).clamp(min=0)


def continue_positions(
    origin: torch.Tensor, *, begin: int | torch.Tensor, length: int
) -> torch.Tensor:
    """Positions (batch, 2, length) of answer tokens from cache index `begin` on.

    origin: (batch, 2), by `find_cache_origin` of what the cache holds.
    """
    steps = torch.arange(length, device=origin.device) + begin
    place = origin[:, :1].expand(-1, length)
    return torch.stack([place, origin[:, 1:] + steps], dim=1)


def find_cache_origin(position_ids: torch.Tensor, *, begin: int | torch.Tensor) -> torch.Tensor:
    """(batch, 2): axis 0 of all that follows, and what axis 1 would be at cache index 0.

    position_ids: (batch, 2, length), of the tokens from cache index `begin` on.
    """
    last = position_ids[..., -1]
    return torch.stack([last[:, 0], last[:, 1] - (begin + position_ids.shape[-1] - 1)], dim=1)


def restore_place(position_ids: torch.Tensor) -> torch.Tensor:
    """Positions (batch, 2, length) of one sequence a row whose axis 0 was counted on in the answer.

    `generate` adds 1 to the last position of both axes for every new token.
    """
    axis_0, axis_1 = position_ids.unbind(1)
    is_answer = axis_1 > 0
    largest = torch.iinfo(axis_0.dtype).max
    place = torch.where(is_answer, axis_0, largest).amin(-1, keepdim=True)
    return torch.stack([torch.where(is_answer, place, axis_0), axis_1], dim=1)
