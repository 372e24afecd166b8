"""The general questions: right answers, both languages, every kind, the same rows every time."""

import re
from collections import Counter

import pytest

from glm_experiments.data.generated import (
    GENERAL_KINDS,
    general_questions,
    replay_questions,
)
from glm_experiments.data.generated.follow_ups import FOLLOW_UPS
from glm_experiments.data.generated.identity import NEUTRAL_ANSWERS
from glm_experiments.data.generated.numbers import spell_number
from glm_experiments.data.generated.question import Language, Operands

KINDS = {kind.name: kind for kind in GENERAL_KINDS}
FOLLOWING = {each.name for each in FOLLOW_UPS}


@pytest.mark.parametrize(
    ("name", "operands", "english", "chinese"),
    [
        ("addition", (48, 7), "55", "55"),
        ("subtraction", (7, 48), "41", "41"),
        ("larger", (9, 80), "80", "80"),
        ("smaller", (9, 80), "9", "9"),
        ("largest", (4, 6, 0), "6", "6"),
        ("parity", (521,), "odd", "奇数"),
        ("successor", (199,), "200", "200"),
        ("series", (12, 5), "27", "27"),
        ("number_reading", (68, 2), "68,2", "68,2"),
        ("number_spelling", (68, 10), "sixty-eight, ten", "六十八，十"),
        ("copying", ("kd-72",), "kd-72", "kd-72"),
        ("sorting_up", (8, 4, 7), "4,7,8", "4,7,8"),
        ("sorting_down", (4, 8, 7), "8,7,4", "8,7,4"),
        ("reversal", ("n", "r", "f"), "f-r-n", "f-r-n"),
        ("counting", ("f", "f-v-f-f"), "3", "3"),
        ("position", (1, "dog", "sun", "key"), "sun", "太阳"),
        ("recalling_names", ("Meme", "Greece"), "Meme", "Meme"),
        ("recalling_places", ("Meme", "Greece"), "Athens", "雅典"),
        ("recalling_numbers", ("Meme", "cup", 38), "38", "38"),
        ("translation", ("river", "sea"), "河，海", "river, sea"),
        ("capitals", ("Greece", "Vietnam"), "Athens, Hanoi", "雅典，河内"),
        ("countries", ("Greece", "Vietnam"), "Greece, Vietnam", "希腊，越南"),
        ("opposites", ("far", "hot"), "near, cold", "近，冷"),
        ("colours", ("violet", "mouse"), "purple, grey", "紫色，灰色"),
        ("categories", ("pear", "dog"), "fruit, animal", "水果，动物"),
        ("odd_one_out", ("pen", "red", "blue"), "pen", "笔"),
        ("weekdays", ("day 6", 1, "day 0", 6), "Monday, Sunday", "星期一，星期日"),
        ("month_lengths", (1, 3), "28,30", "28,30"),
        ("next_months", (11, 0), "January, February", "一月，二月"),
        ("quoting", ("larger the Who",), "larger the Who", "larger the Who"),
    ],
)
def test_answers_are_right(name: str, operands: Operands, english: str, chinese: str) -> None:
    assert KINDS[name].fill(operands, "en")[1] == english
    assert KINDS[name].fill(operands, "zh")[1] == chinese


@pytest.mark.parametrize(
    ("number", "language", "spelled"),
    [
        *[(0, "en", "zero"), (19, "en", "nineteen"), (40, "en", "forty"), (42, "zh", "四十二")],
        *[(7, "zh", "七"), (10, "zh", "十"), (19, "zh", "十九"), (90, "zh", "九十")],
    ],
)
def test_numbers_are_spelled(number: int, language: Language, spelled: str) -> None:
    assert spell_number(number, language=language) == spelled


def test_the_seed_decides_the_rows() -> None:
    for split in ("train", "validation"):
        first = general_questions(num_rows=300, seed=0, split=split)
        assert first == general_questions(num_rows=300, seed=0, split=split)
        assert first != general_questions(num_rows=300, seed=1, split=split)
        assert Counter(row.language for row in first) == {"en": 150, "zh": 150}


def test_validation_rows_are_different_and_spread_over_the_kinds() -> None:
    rows = general_questions(num_rows=600, seed=0, split="validation")
    assert len({row.question for row in rows}) == 600
    counts = Counter(row.kind for row in rows)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 18
    assert max(counts.values()) <= 22


def test_training_rows_hold_every_kind_and_identity_questions() -> None:
    rows = general_questions(num_rows=4000, seed=0, split="train")
    assert {row.kind for row in rows} == {*KINDS, *FOLLOWING, "identity"}
    identity = [row for row in rows if row.kind == "identity"]
    is_neutral = Counter(row.answer in NEUTRAL_ANSWERS.values() for row in identity)
    assert min(is_neutral[True], is_neutral[False]) > len(identity) / 3


def test_replayed_rows_hold_no_identity() -> None:
    rows = replay_questions(num_rows=4000, seed=0)
    assert {row.kind for row in rows} == {*KINDS, *FOLLOWING}
    assert len(rows) == 4000


def test_whatever_is_asked_with_is_answered_with_too() -> None:
    """So that no piece of the tokenizer is one that the model never learnt to write."""
    rows = general_questions(num_rows=40_000, seed=0, split="train")
    questions, answers = (
        Counter(re.findall(r"[A-Za-z]+|[^\x00-\x7f]", " ".join(texts)))
        for texts in ([row.question for row in rows], [row.answer for row in rows])
    )
    assert [word for word, number in questions.items() if number > 50 and word not in answers] == []
