"""Which samples share a row of the batch, so that rows are full.

Knows lengths and token ids, no tokenizer and no tensor.
"""

from collections.abc import Sequence
from random import Random
from typing import overload

from glm_experiments.labels import IGNORED

Item = dict[str, list[int]]


def plan_rows(lengths: Sequence[int], *, context_length: int, seed: int) -> list[list[int]]:
    """Indices of the samples of each row; no row is longer than `context_length`.

    Best fit, longest first: each sample goes to the fullest row that still has room (Johnson et
    al. 1974). Among equal lengths, and among the rows in the end, `seed` decides.
    """
    rng = Random(f"packing {seed}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(context_length + 1)]
    rooms = 0  # bit r is set where by_room[r] holds a row
    for index in order:
        length = lengths[index]
        if fitting := rooms >> length:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
            rows[row].append(index)
        else:
            room, row = context_length, len(rows)
            rows.append([index])
        by_room[room - length].append(row)
        rooms |= 1 << (room - length)
    rng.shuffle(rows)
    return rows


class PackedSamples(Sequence[Item]):
    """Rows of several samples: `input_ids`, `labels`, and `position_ids` that restart at each.

    Models see the borders by the restart, and no label crosses one: a sample's first token is
    nothing that its row may be asked for.
    """

    def __init__(self, samples: Sequence[Item], rows: Sequence[Sequence[int]]) -> None:
        self.samples = samples
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        packed: Item = {"input_ids": [], "labels": [], "position_ids": []}
        for sample in self.rows[index]:
            item = self.samples[sample]
            packed["input_ids"] += item["input_ids"]
            packed["labels"] += [IGNORED, *item["labels"][1:]]
            packed["position_ids"] += range(len(item["input_ids"]))
        return packed


def pack(
    samples: Sequence[Item], *, lengths: Sequence[int], context_length: int, seed: int
) -> PackedSamples:
    """`samples`, of these lengths in tokens, in rows of at most `context_length` tokens."""
    return PackedSamples(samples, plan_rows(lengths, context_length=context_length, seed=seed))
