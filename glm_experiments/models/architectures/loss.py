"""The loss over labelled tokens alone, in pieces: logits are never made for the rest of a batch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from glm_experiments.models.device_hooks import renew_hooked_forward
from glm_experiments.models.mixing_in import mix_in

PIECE_LENGTH = 512
"""Rows of logits at a time, at least: with fewer, reading the head takes longer than using it."""


def apply_label_only_loss(model: PreTrainedModel) -> PreTrainedModel:
    """Let `model.forward` take `label_positions` beside `labels`, in place.

    label_positions: (labels,) int64, ascending: flat indices into (batch * length) of the tokens
    whose next token is labelled. Then the loss is the sum over them, divided by
    `num_items_in_batch` (None: by their number), and the output has no logits. Without them,
    `forward` is what it was. Works for models with a `base_model` and a head of their own, and
    makes the model an instance of a subclass of its class, of the same name.
    """
    if not isinstance(model, LabelOnlyLoss):
        mix_in(model, LabelOnlyLoss)
        renew_hooked_forward(model)
    return model


class LabelOnlyLoss:
    """A causal language model's `forward` with a loss over chosen rows."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if LabelOnlyLoss in cls.__bases__:
            plain: Any = cls.__bases__[1]
            cls.forward = _name_labels(plain.forward, of=cls)  # type: ignore[method-assign]

    def forward(
        self,
        *args: Any,
        label_positions: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        plain: Any = super()
        if label_positions is None:
            if num_items_in_batch is not None:
                kwargs["num_items_in_batch"] = num_items_in_batch
            return plain.forward(*args, **kwargs)
        model: Any = self
        labels = kwargs.pop("labels")
        outputs = model.base_model(*args, **{"use_cache": False, **kwargs})
        hidden = outputs.last_hidden_state
        positions = label_positions.to(hidden.device)
        rows = hidden.flatten(0, 1).index_select(0, positions)
        targets = labels.to(hidden.device).flatten().index_select(0, positions + 1)
        total = sum_loss(model.lm_head, rows, targets)
        count = max(len(rows), 1) if num_items_in_batch is None else num_items_in_batch
        if isinstance(count, torch.Tensor):
            count = count.to(total.device)
        return CausalLMOutputWithPast(
            loss=total / count,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def sum_loss(head: nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the cross entropies of `rows` (count, hidden) for `targets` (count,), in float32.

    Each piece's logits are made a second time for the gradient instead of being kept.
    """
    num_pieces = max(len(rows) // PIECE_LENGTH, 1)
    pairs = zip(rows.tensor_split(num_pieces), targets.tensor_split(num_pieces), strict=True)
    losses = [
        checkpoint(_sum_piece, head, piece, target, use_reentrant=False, preserve_rng_state=False)
        if torch.is_grad_enabled() and num_pieces > 1
        else _sum_piece(head, piece, target)
        for piece, target in pairs
    ]
    return torch.stack(losses).sum()


def _sum_piece(head: nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(rows).float()
    return nn.functional.cross_entropy(logits, targets.to(logits.device), reduction="sum")


def _name_labels(forward: Callable[..., Any], *, of: Any) -> Callable[..., Any]:
    """`forward` of the class `of`, with what the loss takes among the names of its arguments.

    The Trainer and `generate` read them.
    """
    signature = inspect.signature(forward)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in ("label_positions", "num_items_in_batch")
        if name not in signature.parameters
    ]
    *named, rest = signature.parameters.values()
    assert rest.kind is inspect.Parameter.VAR_KEYWORD

    @functools.wraps(forward)
    def named_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return super(of, self).forward(*args, **kwargs)

    named_forward.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*named, *added, rest]
    )
    return named_forward
