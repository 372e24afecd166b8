import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from glm_experiments.models.architectures.chatglm.masks import build_attention_mask

# Two context tokens, [gMASK] being the second, and two of the answer.
ONE = torch.tensor([[[0, 1, 1, 1], [0, 0, 1, 2]]])
SMALLEST = torch.finfo(torch.float32).min


def seen(position_ids: torch.Tensor, **options) -> list[list[int]]:
    """Which key (column) each query (row) of the first sequence sees."""
    settings = {
        "attention_mask": None,
        "num_keys": position_ids.shape[-1],
        "num_past": 0,
        "dtype": torch.float32,
    }
    mask = build_attention_mask("sdpa", position_ids, **(settings | options))
    assert mask.shape[:2] == (len(position_ids), 1)
    assert set(mask.unique().tolist()) <= {0.0, SMALLEST}
    return (mask[0, 0] == 0).int().tolist()


def test_context_sees_itself_and_answer_what_came_before():
    assert seen(ONE) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_padding_sees_itself_and_is_seen_by_nobody():
    padding = torch.tensor([[0, 1, 1, 1]])
    assert seen(ONE, attention_mask=padding) == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 1],
    ]


def test_packed_sequences_do_not_see_each_other():
    packed = torch.tensor([[[0, 0, 0, 1, 1], [0, 1, 0, 0, 1]]])
    assert seen(packed) == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_packed_sequences_of_one_token_are_apart():
    assert seen(torch.tensor([[[0, 0, 0], [1, 1, 2]]])) == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize("num_past", [2, torch.tensor(2)])
def test_new_tokens_see_the_cache(num_past):
    assert seen(ONE[..., 2:], num_keys=4, num_past=num_past) == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_static_cache_is_not_seen_beyond_the_new_tokens():
    assert seen(ONE, num_keys=6, num_past=torch.tensor(0)) == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
    ]


def test_one_new_token_needs_a_mask_for_padding_alone():
    options = {"num_keys": 4, "num_past": 3, "dtype": torch.float32}
    last = ONE[..., 3:]
    assert build_attention_mask("sdpa", last, attention_mask=None, **options) is None
    padding = torch.tensor([[0, 1, 1, 1]])
    assert seen(last, num_keys=4, num_past=3, attention_mask=padding) == [[0, 1, 1, 1]]


@pytest.mark.parametrize("prefix", ["", "prefix_"])
def test_block_mask_follows_the_same_rule(prefix):
    padding = torch.tensor([[0, 1, 1, 1]])
    options = {"attention_mask": padding, "num_keys": 4, "num_past": 0, "dtype": torch.float32}
    block_mask = build_attention_mask(f"{prefix}flex_attention", ONE, **options)
    dense = create_mask(block_mask.mask_mod, 1, 1, 4, 4, device="cpu")
    assert dense[0, 0].int().tolist() == seen(ONE, attention_mask=padding)
    again = build_attention_mask(
        "flex_attention", ONE, **(options | {"attention_mask": block_mask})
    )
    assert again is block_mask


def test_ready_masks_are_taken():
    options = {"num_keys": 4, "num_past": 0, "dtype": torch.float32}
    ready = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    found = build_attention_mask("eager", ONE, attention_mask=ready, **options)
    assert (found == 0).equal(ready)
    assert build_attention_mask("eager", ONE, attention_mask=found, **options) is found
