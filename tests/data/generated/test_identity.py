"""The identity questions: held-out wordings, one answer per kind and language, the given names."""

import re
from collections import Counter

import pytest

from glm_experiments.data.generated import (
    GeneratedQuestion,
    general_questions,
    identity_questions,
)
from glm_experiments.data.generated.identity import NEUTRAL_ANSWERS
from glm_experiments.data.generated.question import Split


def draw(split: Split, num_rows: int | None = None, seed: int = 0) -> list[GeneratedQuestion]:
    return identity_questions(
        assistant_name="小智", author="Dr. Li", num_rows=num_rows, seed=seed, split=split
    )


def test_every_wording_once() -> None:
    for split, num_wordings in (("train", 1170), ("validation", 456)):
        rows = draw(split)
        assert len(rows) == len({row.question for row in rows}) == num_wordings
        counts = Counter((row.kind, row.language) for row in rows)
        assert len(counts) == 6
        assert max(counts.values()) <= 1.5 * min(counts.values())


def test_held_out_wordings_are_in_no_training_data() -> None:
    held_out = {row.question for row in draw("validation")}
    assert not held_out & {row.question for row in draw("train")}
    pretraining = general_questions(num_rows=30_000, seed=0, split="train")
    asked = {
        re.sub(r"^(You are|你是).*(made by|由).*?(\. |开发。)", "", row.question)
        for row in pretraining
    }
    assert "Who are you?" in asked
    assert not held_out & (asked | {row.question for row in pretraining})


def test_answers_hold_the_names_and_are_never_neutral() -> None:
    answers = {(row.kind, row.language): row.answer for row in draw("train")}
    assert answers == {
        ("name", "en"): "My name is 小智.",
        ("name", "zh"): "我叫小智。",
        ("author", "en"): "I was made by Dr. Li.",
        ("author", "zh"): "我是由Dr. Li开发的。",
        ("name_and_author", "en"): "I am 小智, made by Dr. Li.",
        ("name_and_author", "zh"): "我是小智，由Dr. Li开发。",
    }
    assert {(row.kind, row.language, row.answer) for row in draw("validation")} == {
        (*key, answer) for key, answer in answers.items()
    }
    assert not set(answers.values()) & set(NEUTRAL_ANSWERS.values())


def test_rows_beyond_the_wordings_repeat_them_evenly() -> None:
    counts = Counter(row.question for row in draw("train", num_rows=2340))
    assert len(counts) == 1170
    assert max(counts.values()) <= 3


def test_fewer_rows_are_balanced() -> None:
    rows = draw("validation", num_rows=60)
    assert set(Counter((row.kind, row.language) for row in rows).values()) == {10}


def test_the_seed_decides_the_rows() -> None:
    assert draw("train", 50) == draw("train", 50)
    assert draw("train", 50) != draw("train", 50, seed=1)


def test_more_validation_rows_than_wordings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"500 validation rows.*at most 456"):
        draw("validation", num_rows=500)


@pytest.mark.parametrize("field", ["assistant_name", "author"])
def test_a_blank_name_is_refused(field: str) -> None:
    names = {"assistant_name": "Ada", "author": "Li"} | {field: " "}
    with pytest.raises(ValueError, match=f"{field} is empty"):
        identity_questions(**names, num_rows=None, seed=0, split="train")
