"""The general questions: every kind in both languages, with checkable short answers.

The tiny GLM is pretrained on the training split, and what a tuner made it forget is measured on
the validation split. How the splits are kept apart stands in `question.py`, how questions follow
one another in `turns.py`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import TypeVar

from glm_experiments.data.generated.follow_ups import FOLLOW_UPS, Draw, FollowUp, draw_follow_up
from glm_experiments.data.generated.identity import (
    ANSWERS,
    HELD_OUT_CORES,
    NAMING,
    NEUTRAL_ANSWERS,
    TRAINED_CORES,
    pretraining_identity_question,
)
from glm_experiments.data.generated.numbers import NUMBER_KINDS
from glm_experiments.data.generated.question import (
    LANGUAGES,
    GeneratedQuestion,
    Kind,
    Language,
    Split,
    draw_question,
)
from glm_experiments.data.generated.quoting import build_quoting_kind
from glm_experiments.data.generated.sequences import ORDINALS, SEQUENCE_KINDS, draw_name
from glm_experiments.data.generated.turns import precede, put_in_turns
from glm_experiments.data.generated.vocabulary import COLOURED, THINGS
from glm_experiments.data.generated.words import WORD_KINDS

ASKED_KINDS: tuple[Kind, ...] = (*NUMBER_KINDS, *SEQUENCE_KINDS, *WORD_KINDS)
QUOTED_TEXTS: tuple[str, ...] = (
    *(core for kind in ASKED_KINDS for cores in kind.cores.values() for core in cores),
    *(
        core
        for table in (TRAINED_CORES, HELD_OUT_CORES)
        for cores in table.values()
        for core in cores
    ),
    *(text for table in (NAMING, ANSWERS, NEUTRAL_ANSWERS) for text in table.values()),
    *(text for words, _ in COLOURED.values() for text in words),
    *(text for ordinals in ORDINALS.values() for text in ordinals),
    *(f"{thing}s" for thing in THINGS),
)
GENERAL_KINDS: tuple[Kind, ...] = (*ASKED_KINDS, build_quoting_kind(QUOTED_TEXTS, share=3))
IDENTITY_SHARE = 3
"""Weight of the identity rows among the kinds' shares."""
Idea = TypeVar("Idea")
Single = Kind | None
"""What a question of one turn is drawn of; None: of the pretraining's identity questions."""


def general_questions(*, num_rows: int, seed: int, split: Split) -> list[GeneratedQuestion]:
    """`num_rows` questions, languages alternating, in an order drawn from `seed`.

    Training rows follow the kinds' shares, many of them later in a conversation, and hold identity
    questions too, with a neutral answer or with the names in the question; validation rows are
    spread evenly over the kinds, all different, and hold no identity question, because an identity
    is what a later tuning changes.
    """
    rng = Random(f"general {split} {seed}")
    if split == "validation":
        draw_row = partial(_draw_single, rng, split=split)
        return _draw_validation(rng, num_rows=num_rows, ideas=GENERAL_KINDS, draw_row=draw_row)
    singles = (*_by_share(GENERAL_KINDS), *[None] * IDENTITY_SHARE)
    draw = partial(_draw_any, singles=singles, split=split)
    return put_in_turns(
        _draw_train(rng, num_rows=num_rows, singles=singles, draw=draw), rng, draw=draw
    )


def replay_questions(*, num_rows: int, seed: int) -> list[GeneratedQuestion]:
    """As the training rows of `general_questions`, but without identity questions, whose neutral
    answers would contradict the identity that is being taught. Whoever mixes them with those that
    teach it puts all behind one another."""
    singles = _by_share(GENERAL_KINDS)
    draw = partial(draw_general, split="train")
    return _draw_train(Random(f"replay {seed}"), num_rows=num_rows, singles=singles, draw=draw)


def second_questions(*, num_rows: int, seed: int, draw: Draw) -> list[GeneratedQuestion]:
    """Different validation rows, spread evenly over kinds and follow-ups, each behind one other.

    draw: of the first questions, where a follow-up doesn't bring its own.
    """
    rng = Random(f"second questions {seed}")

    def draw_row(idea: Kind | FollowUp, language: Language) -> GeneratedQuestion:
        if isinstance(idea, FollowUp):
            return draw_follow_up(idea, rng, language=language, split="validation", draw=draw)
        drawn = draw_question(idea, rng, language=language, split="validation")
        return precede(drawn, rng, num_earlier=1, draw=draw)

    ideas: tuple[Kind | FollowUp, ...] = (*GENERAL_KINDS, *FOLLOW_UPS)
    return _draw_validation(rng, num_rows=num_rows, ideas=ideas, draw_row=draw_row)


def draw_general(rng: Random, *, split: Split) -> GeneratedQuestion:
    """Any question of the kinds, by their shares."""
    return _draw_any(rng, singles=_by_share(GENERAL_KINDS), split=split)


def _by_share(kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    return tuple(kind for kind in kinds for _ in range(kind.share))


def _draw_any(rng: Random, *, singles: Sequence[Single], split: Split) -> GeneratedQuestion:
    return _draw_single(rng, rng.choice(singles), rng.choice(LANGUAGES), split=split)


def _draw_single(
    rng: Random, single: Single, language: Language, *, split: Split
) -> GeneratedQuestion:
    if single is None:
        return pretraining_identity_question(rng, language=language, draw_name=draw_name)
    return draw_question(single, rng, language=language, split=split)


def _draw_train(
    rng: Random, *, num_rows: int, singles: Sequence[Single], draw: Draw
) -> list[GeneratedQuestion]:
    """draw: of what follow-ups follow."""
    turns: list[Single | FollowUp] = [*singles]
    turns.extend(each for each in FOLLOW_UPS for _ in range(each.share))
    rng.shuffle(turns)
    rows = []
    for index in range(num_rows):
        idea = turns[index // len(LANGUAGES) % len(turns)]
        language = LANGUAGES[index % len(LANGUAGES)]
        rows.append(
            draw_follow_up(idea, rng, language=language, split="train", draw=draw)
            if isinstance(idea, FollowUp)
            else _draw_single(rng, idea, language, split="train")
        )
    rng.shuffle(rows)
    return rows


def _draw_validation(
    rng: Random,
    *,
    num_rows: int,
    ideas: Sequence[Idea],
    draw_row: Callable[[Idea, Language], GeneratedQuestion],
) -> list[GeneratedQuestion]:
    rows: dict[tuple[str, ...], GeneratedQuestion] = {}
    for turn in count():
        if len(rows) == num_rows:
            break
        idea = ideas[turn // len(LANGUAGES) % len(ideas)]
        drawn = draw_row(idea, LANGUAGES[turn % len(LANGUAGES)])
        rows.setdefault((*(each.question for each in drawn.earlier), drawn.question), drawn)
    drawn_rows = list(rows.values())
    rng.shuffle(drawn_rows)
    return drawn_rows
