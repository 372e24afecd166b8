"""Questions that only what was said before answers: the last answer again, a place or a name.

They are worded in words of the other questions, which the quoting kind has written in answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from glm_experiments.data.generated.question import (
    GeneratedQuestion,
    Kind,
    Language,
    Split,
    build_wordings,
    draw_operands,
    word_question,
)
from glm_experiments.data.generated.sequences import RECALLING_NAMES, RECALLING_PLACES

Draw = Callable[[Random], GeneratedQuestion]
"""Draws a question that may stand before another."""


@dataclass(frozen=True)
class FollowUp:
    """One idea of a question about what was said before it.

    `draw_first` gives the question before it and the right answer to this one; it may draw any
    question for that. `cores` and `share` are as a `Kind`'s.
    """

    name: str
    cores: Mapping[Language, tuple[str, ...]]
    draw_first: Callable[[Random, Language, Split, Draw], tuple[GeneratedQuestion, str]]
    share: int = 1


def draw_follow_up(
    follow_up: FollowUp, rng: Random, *, language: Language, split: Split, draw: Draw
) -> GeneratedQuestion:
    """A question of this idea in a wording of `split`, with the one before it."""
    first, answer = follow_up.draw_first(rng, language, split, draw)
    wordings = build_wordings(follow_up.cores[language], language=language, split=split)
    return GeneratedQuestion(
        rng.choice(wordings), answer, follow_up.name, language, earlier=(first,)
    )


def _repeat(
    rng: Random, _language: Language, _split: Split, draw: Draw
) -> tuple[GeneratedQuestion, str]:
    first = draw(rng)
    return first, first.answer


def _recall(
    told: Kind, wanted: Kind
) -> Callable[[Random, Language, Split, Draw], tuple[GeneratedQuestion, str]]:
    """`told` is asked first; what it says answers `wanted`, too."""

    def draw_first(
        rng: Random, language: Language, split: Split, _draw: Draw
    ) -> tuple[GeneratedQuestion, str]:
        operands = draw_operands(told, rng, split=split)
        first = word_question(told, operands, rng, language=language, split=split)
        return first, wanted.fill(operands, language)[1]

    return draw_first


FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(
        "repeated_answers",
        {
            "en": ("Repeat your answer.", "Say your answer again."),
            "zh": ("重复你的回答。", "再说一遍你的回答。"),
        },
        _repeat,
        share=2,
    ),
    FollowUp(
        "recalled_places",
        {
            "en": ("Where do I live?", "Where am I from?"),
            "zh": ("我住在哪里？", "我来自哪里？"),
        },
        _recall(RECALLING_NAMES, RECALLING_PLACES),
        share=2,
    ),
    FollowUp(
        "recalled_names",
        {"en": ("What is my name?", "Say my name."), "zh": ("我叫什么？", "说出我的名字。")},
        _recall(RECALLING_PLACES, RECALLING_NAMES),
        share=2,
    ),
)
