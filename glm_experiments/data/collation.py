"""Samples -> one batch of tensors, padded on the right to its longest row. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glm_experiments.data.packing import Item
from glm_experiments.labels import IGNORED

if TYPE_CHECKING:
    import torch


class Collator:
    """Builds training batches on the CPU; nothing in a batch needs a device to be read back."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Padded `items`: `input_ids` and `labels` (batch, length), int64, and `label_positions`.

        `label_positions`: (labels,), int64, ascending: flat indices into batch * length of the
        positions whose next token is labelled. Packed items also give `position_ids` (batch,
        length); padding counts as one more sample of the row, from 0.
        """
        import torch

        length = max(len(item["input_ids"]) for item in items)

        def pad(key: str, value: int) -> torch.Tensor:
            rows = [item[key] + [value] * (length - len(item[key])) for item in items]
            return torch.tensor(rows, dtype=torch.int64)

        labels = pad("labels", IGNORED)
        is_next_labelled = torch.zeros_like(labels, dtype=torch.bool)
        is_next_labelled[:, :-1] = labels[:, 1:] != IGNORED
        batch = {
            "input_ids": pad("input_ids", self.pad_token_id),
            "labels": labels,
            "label_positions": is_next_labelled.flatten().nonzero().flatten(),
        }
        if "position_ids" in items[0]:
            positions = [
                item["position_ids"] + list(range(length - len(item["position_ids"])))
                for item in items
            ]
            batch["position_ids"] = torch.tensor(positions, dtype=torch.int64)
        return batch
