"""Conversations of generated questions: what comes before what, and what only history answers."""

from collections import Counter
from functools import partial
from random import Random

import pytest

from glm_experiments.data.generated import (
    GENERAL_KINDS,
    GeneratedQuestion,
    draw_general,
    general_questions,
    precede,
    replay_questions,
    second_questions,
)
from glm_experiments.data.generated.follow_ups import FOLLOW_UPS, draw_follow_up
from glm_experiments.data.generated.question import LANGUAGES
from glm_experiments.data.generated.turns import LATER_SHARE, NUM_EARLIER

FOLLOWING = {each.name: each for each in FOLLOW_UPS}
draw_held_out = partial(draw_general, split="validation")


def test_a_share_of_the_training_rows_comes_later_in_a_conversation() -> None:
    rows = general_questions(num_rows=8000, seed=0, split="train")
    own = [row for row in rows if row.kind not in FOLLOWING]
    counts = Counter(len(row.earlier) for row in own)
    assert 1 - counts[0] / len(own) == pytest.approx(LATER_SHARE, abs=0.03)
    for number, weight in NUM_EARLIER.items():
        share = LATER_SHARE * weight / sum(NUM_EARLIER.values())
        assert counts[number] / len(own) == pytest.approx(share, abs=0.02)
    assert all(row.earlier for row in rows if row.kind in FOLLOWING)
    # In conversations, too: every kind is asked first, and every kind later.
    kinds = {kind.name for kind in GENERAL_KINDS}
    assert {row.earlier[0].kind for row in rows if row.earlier} == {*kinds, "identity"}
    assert {row.kind for row in rows if row.earlier} == {*kinds, *FOLLOWING, "identity"}
    assert not any(each.earlier for row in rows for each in row.earlier)


def test_no_conversation_has_two_identities() -> None:
    rows = general_questions(num_rows=8000, seed=0, split="train")
    kinds = [[each.kind for each in (*row.earlier, row)] for row in rows]
    assert max(each.count("identity") for each in kinds) == 1
    named = GeneratedQuestion("You are Ada. Who are you?", "Ada", "identity", "en")
    sums = iter([named, GeneratedQuestion("1+1=?", "2", "addition", "en")])
    row = precede(named, Random(0), num_earlier=1, draw=lambda _: next(sums))
    assert [each.question for each in row.earlier] == ["1+1=?"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_follow_ups_are_answered_by_what_was_said(language: str) -> None:
    rng = Random(language)
    for _ in range(20):
        ask = partial(draw_follow_up, rng=rng, language=language, split="train",
                      draw=draw_held_out)  # fmt: skip
        again = ask(FOLLOWING["repeated_answers"])
        assert again.answer == again.earlier[-1].answer
        place = ask(FOLLOWING["recalled_places"])
        assert place.earlier[-1].kind == "recalling_names"
        assert place.answer in place.earlier[-1].question
        assert place.answer != place.earlier[-1].answer
        name = ask(FOLLOWING["recalled_names"])
        assert name.earlier[-1].kind == "recalling_places"
        assert name.answer in name.earlier[-1].question
        assert name.answer not in (name.question, name.earlier[-1].answer)


def test_second_questions_are_different_and_spread() -> None:
    rows = second_questions(num_rows=330, seed=0, draw=draw_held_out)
    assert len({(row.earlier[0].question, row.question) for row in rows}) == 330
    assert all(len(row.earlier) == 1 for row in rows)
    counts = Counter(row.kind for row in rows)
    assert set(counts) == {*FOLLOWING, *(kind.name for kind in GENERAL_KINDS)}
    assert set(counts.values()) == {10}
    assert rows == second_questions(num_rows=330, seed=0, draw=draw_held_out)
    assert rows != second_questions(num_rows=330, seed=1, draw=draw_held_out)


def test_no_second_question_and_no_first_is_a_training_question() -> None:
    rows = [
        *general_questions(num_rows=20_000, seed=0, split="train"),
        *replay_questions(num_rows=5000, seed=0),
    ]
    trained = {each.question for row in rows for each in (*row.earlier, row)}
    held_out = second_questions(num_rows=330, seed=0, draw=draw_held_out)
    asked = [each for row in held_out for each in (*row.earlier, row)]
    assert [each.question for each in asked if each.question in trained] == []
