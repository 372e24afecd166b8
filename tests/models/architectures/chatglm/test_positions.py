from typing import Any

import pytest
import torch

from glm_experiments.models.architectures.chatglm.positions import (
    build_positions,
    continue_positions,
    find_cache_origin,
    restore_place,
)
from tests.models.architectures.chatglm.tiny_chatglm import GMASK, MASK, PAD, SOP


def positions(rows: list[list[int]], **options: Any) -> list[list[list[int]]]:
    return build_positions(
        torch.tensor(rows), mask_token_id=MASK, gmask_token_id=GMASK, sop_token_id=SOP, **options
    ).tolist()


def test_answer_stays_at_gmask_and_counts_on_the_second_axis():
    assert positions([[7, 8, GMASK, SOP, 9, 9]]) == [[[0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3]]]


def test_infilling_stays_at_mask():
    assert positions([[7, MASK, 8, SOP, 9]]) == [[[0, 1, 2, 1, 1], [0, 0, 0, 1, 2]]]


def test_gmask_goes_before_mask_and_the_first_of_each_counts():
    assert positions([[MASK, GMASK, GMASK, SOP, 9]]) == [[[0, 1, 2, 1, 1], [0, 0, 0, 1, 2]]]


def test_special_tokens_in_the_answer_change_nothing():
    found = positions([[MASK, 7, SOP, GMASK, SOP, MASK]])
    assert found == [[[0, 1, 0, 0, 0, 0], [0, 0, 1, 2, 3, 4]]]


@pytest.mark.parametrize("row", [[7, 8, 9], [7, SOP, 9], [7, GMASK, 9], [SOP, GMASK, 9]])
def test_without_a_context_all_is_answer(row):
    assert positions([row]) == [[[0, 0, 0], [1, 2, 3]]]


def test_left_padding_shifts_and_is_never_a_place():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    found = positions(
        [[PAD, GMASK, 7, GMASK, SOP, 9], [PAD, PAD, PAD, 7, 8, 9]], attention_mask=mask
    )
    assert found == [
        [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 2]],
        [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 2, 3]],
    ]


def test_packed_sequences_begin_at_every_zero():
    rows = [[7, GMASK, SOP, 9, MASK, SOP, 8, 5, 6]]
    restarting = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1]])
    assert positions(rows, restarting=restarting) == [
        [[0, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 2, 0, 1, 2, 1, 2]]
    ]


def test_continuation_goes_on_where_the_cache_ends():
    whole = torch.tensor(positions([[7, 8, GMASK, SOP, 9, 9, 9], [7, 8, 9, 9, 9, 9, 9]]))
    origin = find_cache_origin(whole[..., :5], begin=0)
    assert continue_positions(origin, begin=5, length=2).equal(whole[..., 5:])
    assert find_cache_origin(whole[..., 5:], begin=5).equal(origin)


def test_place_is_restored_after_both_axes_were_counted_on():
    whole = torch.tensor(positions([[7, GMASK, 8, SOP, 9, 9]]))
    counted = whole.clone()
    counted[:, 0, 4:] += torch.tensor([1, 2])
    assert restore_place(counted).equal(whole)
