"""The general questions: every kind in both languages, with checkable short answers.

The tiny GLM is pretrained on the training split, and what a tuner made it forget is measured on
the validation split. How the splits are kept apart stands in `question.py`.
"""

from itertools import count
from random import Random

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
    Split,
    draw_question,
)
from glm_experiments.data.generated.quoting import build_quoting_kind
from glm_experiments.data.generated.sequences import ORDINALS, SEQUENCE_KINDS, draw_name
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


def general_questions(*, num_rows: int, seed: int, split: Split) -> list[GeneratedQuestion]:
    """`num_rows` questions, languages alternating, in an order drawn from `seed`.

    Training rows follow the kinds' shares and hold identity questions too, with a neutral answer
    or with the names in the question; validation rows are spread evenly over the kinds, all
    different, and hold no identity question, because an identity is what a later tuning changes.
    """
    rng = Random(f"general {split} {seed}")
    if split == "validation":
        return _draw_validation(rng, num_rows=num_rows)
    return _draw_train(rng, num_rows=num_rows, identity_share=IDENTITY_SHARE)


def replay_questions(*, num_rows: int, seed: int) -> list[GeneratedQuestion]:
    """As the training rows of `general_questions`, but without identity questions: their neutral
    answers would contradict the identity that is being taught."""
    return _draw_train(Random(f"replay {seed}"), num_rows=num_rows, identity_share=0)


def _draw_train(rng: Random, *, num_rows: int, identity_share: int) -> list[GeneratedQuestion]:
    turns: list[Kind | None] = [kind for kind in GENERAL_KINDS for _ in range(kind.share)]
    turns.extend([None] * identity_share)
    rng.shuffle(turns)
    rows = []
    for index in range(num_rows):
        kind = turns[index // len(LANGUAGES) % len(turns)]
        language = LANGUAGES[index % len(LANGUAGES)]
        rows.append(
            pretraining_identity_question(rng, language=language, draw_name=draw_name)
            if kind is None
            else draw_question(kind, rng, language=language, split="train")
        )
    rng.shuffle(rows)
    return rows


def _draw_validation(rng: Random, *, num_rows: int) -> list[GeneratedQuestion]:
    rows: dict[str, GeneratedQuestion] = {}
    for turn in count():
        if len(rows) == num_rows:
            break
        kind = GENERAL_KINDS[turn // len(LANGUAGES) % len(GENERAL_KINDS)]
        language = LANGUAGES[turn % len(LANGUAGES)]
        drawn = draw_question(kind, rng, language=language, split="validation")
        rows.setdefault(drawn.question, drawn)
    drawn_rows = list(rows.values())
    rng.shuffle(drawn_rows)
    return drawn_rows
