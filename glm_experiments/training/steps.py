"""Which rows form which optimizer step: the same order and the same steps in every parallelism."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset, Sampler

from glm_experiments.labels import IGNORED

Row = dict[str, list[int]]
Batch = dict[str, Any]


class PaddingCollator(Protocol):
    """Rows to one padded batch."""

    pad_token_id: int

    def __call__(self, rows: list[Row], /) -> Batch: ...


class WholeSteps(Dataset[Row]):
    """`rows`, filled up with rows that train nothing to a whole number of optimizer steps.

    Without them the last step of an epoch would be ragged, and processes would fill it each in its
    own way: with repeated rows, which changes the loss.
    """

    def __init__(self, rows: Sequence[Row], *, batch_size: int, filler_id: int) -> None:
        self.rows = rows
        self.num_rows = -(-len(rows) // batch_size) * batch_size
        # One token; a packed row has position_ids beside its ids.
        values = {"input_ids": filler_id, "labels": IGNORED}
        self.filler: Row = {key: [values.get(key, 0)] for key in rows[0]}

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> Row:
        if index >= len(self.rows):
            return self.filler
        return self.rows[index]


class EpochOrder(Sampler[int]):
    """A permutation of the rows for every epoch, decided by the seed alone; fillers come last."""

    def __init__(self, dataset: WholeSteps, *, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        num_real = len(self.dataset.rows)
        yield from torch.randperm(num_real, generator=generator).tolist()
        yield from range(num_real, len(self.dataset))


class MicroBatchCollator:
    """Rows to the batch of one forward call, with the number of real tokens in it.

    Several micro batches are `{"micro_batches": [batch, ...]}`: each is padded for itself.
    """

    def __init__(self, collate: PaddingCollator, *, num_micro_batches: int) -> None:
        self.collate = collate
        self.num_micro_batches = num_micro_batches

    def __call__(self, rows: list[Row]) -> Batch:
        num_tokens = sum(len(row["input_ids"]) for row in rows if len(row["input_ids"]) > 1)
        if self.num_micro_batches == 1:
            return {**self.collate(rows), "num_tokens": num_tokens}
        size = -(-len(rows) // self.num_micro_batches)
        starts = range(0, len(rows), size)
        micro_batches = [self.collate(rows[start : start + size]) for start in starts]
        return {"micro_batches": micro_batches, "num_tokens": num_tokens}


def count_labels(batch: Batch) -> torch.Tensor:
    """Labelled next tokens in a batch, as a tensor on its device (no sync)."""
    if "micro_batches" in batch:
        counts = [count_labels(micro_batch) for micro_batch in batch["micro_batches"]]
        return torch.stack([count.to(counts[0].device) for count in counts]).sum()
    return batch["labels"][:, 1:].ne(IGNORED).sum()  # type: ignore[no-any-return]
