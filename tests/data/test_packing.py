"""Packed rows: nothing lost, nothing cut, well filled, and every border visible."""

from random import Random

import pytest

from glm_experiments.data.packing import Item, pack, plan_rows
from glm_experiments.labels import IGNORED


def draw_lengths(num: int, *, longest: int) -> list[int]:
    rng = Random(0)
    return [min(longest, 4 + int(rng.expovariate(1 / 60))) for _ in range(num)]


def test_every_sample_is_in_one_row_and_rows_are_full() -> None:
    lengths = draw_lengths(5000, longest=512)
    rows = plan_rows(lengths, context_length=512, seed=0)
    assert sorted(index for row in rows for index in row) == list(range(5000))
    filled = [sum(lengths[index] for index in row) for row in rows]
    assert max(filled) <= 512
    assert sum(filled) / (512 * len(rows)) > 0.99


def test_best_fit() -> None:
    rows = plan_rows([5, 7, 3, 5, 2, 8], context_length=10, seed=0)
    lengths = [[[5, 7, 3, 5, 2, 8][index] for index in row] for row in rows]
    assert sorted(map(sorted, lengths)) == [[2, 8], [3, 7], [5, 5]]


def test_the_seed_decides() -> None:
    lengths = draw_lengths(300, longest=64)
    first = plan_rows(lengths, context_length=64, seed=0)
    assert plan_rows(lengths, context_length=64, seed=0) == first
    assert plan_rows(lengths, context_length=64, seed=1) != first


def test_samples_that_fill_a_row_or_are_none() -> None:
    assert plan_rows([], context_length=8, seed=0) == []
    assert sorted(plan_rows([8, 8], context_length=8, seed=0)) == [[0], [1]]


def test_borders_show_in_positions_and_no_label_crosses_one() -> None:
    samples: list[Item] = [
        {"input_ids": [10, 11, 12], "labels": [IGNORED, 11, 12]},
        {"input_ids": [20, 21], "labels": [20, 21]},
        {"input_ids": [30, 31, 32, 33], "labels": [IGNORED, IGNORED, IGNORED, 33]},
    ]
    packed = pack(samples, lengths=[3, 2, 4], context_length=5, seed=0)
    assert len(packed) == 2
    rows = sorted(packed, key=lambda row: row["input_ids"])
    assert rows[1] == {
        "input_ids": [30, 31, 32, 33],
        "labels": [IGNORED, IGNORED, IGNORED, 33],
        "position_ids": [0, 1, 2, 3],
    }
    assert sorted(rows[0]["input_ids"]) == [10, 11, 12, 20, 21]
    for index, position in enumerate(rows[0]["position_ids"]):
        label = rows[0]["labels"][index]
        assert label in (IGNORED, rows[0]["input_ids"][index])
        if position == 0:
            assert label == IGNORED
    assert sorted(rows[0]["position_ids"]) == [0, 0, 1, 1, 2]
    assert packed[:1] == [packed[0]]
    with pytest.raises(IndexError):
        packed[2]
