"""Held-out questions share neither operands nor wording with the training questions."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from glm_experiments.data.generated import GENERAL_KINDS, general_questions
from glm_experiments.data.generated.question import (
    ENDINGS,
    LANGUAGES,
    OPENINGS,
    Kind,
    Language,
    Operands,
    Split,
    build_wordings,
    draw_question,
)

by_kind = pytest.mark.parametrize("kind", GENERAL_KINDS, ids=lambda kind: kind.name)


def draw_operands(kind: Kind, *, split: Split, num_draws: int) -> set[tuple[str, ...]]:
    seen: set[tuple[str, ...]] = set()

    def remember(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
        seen.add(tuple(sorted(map(str, operands))))
        return kind.fill(operands, language)

    rng = Random(split)
    for index in range(num_draws):
        language = LANGUAGES[index % 2]
        draw_question(replace(kind, fill=remember), rng, language=language, split=split)
    return seen


@by_kind
def test_no_operands_in_both_splits(kind: Kind) -> None:
    train = draw_operands(kind, split="train", num_draws=400)
    validation = draw_operands(kind, split="validation", num_draws=100)
    assert len(train) > 50
    assert len(validation) >= 4
    assert not train & validation


@by_kind
@pytest.mark.parametrize("language", LANGUAGES)
def test_wordings_are_divided_and_every_part_is_trained(kind: Kind, language: Language) -> None:
    cores = kind.cores[language]
    train = build_wordings(cores, language=language, split="train")
    validation = build_wordings(cores, language=language, split="validation")
    num_wordings = len(OPENINGS[language]) * len(cores) * len(ENDINGS[language])
    assert len({*train, *validation}) == num_wordings == len(train) + len(validation)
    assert len(validation) == num_wordings // 6
    for parts, holds in (
        (OPENINGS[language], str.startswith),
        (cores, str.__contains__),
        (ENDINGS[language], str.endswith),
    ):
        assert_every_part_is_used(parts, train, holds)


def assert_every_part_is_used(
    parts: tuple[str, ...], wordings: list[str], holds: Callable[[str, str], bool]
) -> None:
    assert [part for part in parts if not any(holds(text, part) for text in wordings)] == []


def test_no_validation_question_is_a_training_question() -> None:
    train = {row.question for row in general_questions(num_rows=30_000, seed=0, split="train")}
    validation = general_questions(num_rows=600, seed=0, split="validation")
    assert [row.question for row in validation if row.question in train] == []
