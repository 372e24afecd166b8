"""Batches: padding on the right, labels, and where the next token is labelled."""

import torch

from glm_experiments.data.collation import Collator
from glm_experiments.data.packing import Item
from glm_experiments.labels import IGNORED


def test_padded_to_the_longest() -> None:
    items: list[Item] = [
        {"input_ids": [5, 6, 7, 8], "labels": [IGNORED, IGNORED, 7, 8]},
        {"input_ids": [5, 9], "labels": [IGNORED, 9]},
    ]
    batch = Collator(3)(items)
    assert set(batch) == {"input_ids", "labels", "label_positions"}
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 9, 3, 3]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]]
    # Positions 1 and 2 of the first row, 0 of the second, whose next tokens are 7, 8 and 9.
    assert batch["label_positions"].tolist() == [1, 2, 4]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_label_positions_find_exactly_the_labelled_next_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    items: list[Item] = []
    for length in (9, 4, 7):
        ids = torch.randint(1, 50, (length,), generator=generator)
        is_kept = torch.rand(length, generator=generator) < 0.5
        items.append({"input_ids": ids.tolist(), "labels": ids.where(is_kept, -100).tolist()})
    batch = Collator(0)(items)
    next_labels = torch.full_like(batch["labels"], IGNORED)
    next_labels[:, :-1] = batch["labels"][:, 1:]
    is_next_labelled = next_labels.flatten() != IGNORED
    assert batch["label_positions"].tolist() == is_next_labelled.nonzero().flatten().tolist()


def test_a_label_of_the_first_token_is_nobodys_next() -> None:
    items: list[Item] = [{"input_ids": [1, 2], "labels": [1, IGNORED]}] * 2
    assert Collator(0)(items)["label_positions"].tolist() == []


def test_packed_rows_keep_their_positions_and_padding_starts_anew() -> None:
    items: list[Item] = [
        {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, IGNORED], "position_ids": [0, 1, 0]},
        {"input_ids": [4], "labels": [IGNORED], "position_ids": [0]},
    ]
    batch = Collator(9)(items)
    assert batch["position_ids"].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["label_positions"].tolist() == [0]
