"""The general questions: every kind in both languages, with checkable short answers.

The tiny GLM is pretrained on the training split, and what a tuner made it forget is measured on
the validation split. How the splits are kept apart stands in `question.py`.
"""

from random import Random

from glm_experiments.data.generated.identity import neutral_identity_question
from glm_experiments.data.generated.numbers import NUMBER_KINDS
from glm_experiments.data.generated.question import (
    LANGUAGES,
    GeneratedQuestion,
    Kind,
    Split,
    draw_question,
)
from glm_experiments.data.generated.sequences import SEQUENCE_KINDS
from glm_experiments.data.generated.words import WORD_KINDS

GENERAL_KINDS: tuple[Kind, ...] = (*NUMBER_KINDS, *SEQUENCE_KINDS, *WORD_KINDS)
IDENTITY_SHARE = 1
"""Weight of the neutral identity rows among the kinds' shares."""


def general_questions(*, num_rows: int, seed: int, split: Split) -> list[GeneratedQuestion]:
    """`num_rows` questions, languages alternating, in an order drawn from `seed`.

    Training rows follow the kinds' shares and hold neutral answers to identity questions too;
    validation rows are spread evenly over the kinds, all different, and hold no identity question,
    because an identity is what a later tuning is meant to change.

    Raises ValueError if there are not `num_rows` different validation questions.
    """
    rng = Random(f"general {split} {seed}")
    if split == "validation":
        return _draw_validation(rng, num_rows=num_rows)
    turns: list[Kind | None] = [kind for kind in GENERAL_KINDS for _ in range(kind.share)]
    turns.extend([None] * IDENTITY_SHARE)
    rows = []
    for index in range(num_rows):
        kind = turns[index // len(LANGUAGES) % len(turns)]
        language = LANGUAGES[index % len(LANGUAGES)]
        rows.append(
            neutral_identity_question(rng, language=language)
            if kind is None
            else draw_question(kind, rng, language=language, split=split)
        )
    rng.shuffle(rows)
    return rows


def _draw_validation(rng: Random, *, num_rows: int) -> list[GeneratedQuestion]:
    rows: dict[str, GeneratedQuestion] = {}
    turn, num_repeats = 0, 0
    while len(rows) < num_rows:
        kind = GENERAL_KINDS[turn // len(LANGUAGES) % len(GENERAL_KINDS)]
        drawn = draw_question(
            kind, rng, language=LANGUAGES[turn % len(LANGUAGES)], split="validation"
        )
        if drawn.question in rows:
            num_repeats += 1
            if num_repeats > 100 + 10 * num_rows:
                raise ValueError(
                    f"{num_rows} different validation questions were asked for, but after "
                    f"{len(rows)} only repeats were drawn: ask for at most {len(rows)}"
                )
        else:
            rows[drawn.question] = drawn
            num_repeats = 0
        turn += 1
    drawn_rows = list(rows.values())
    rng.shuffle(drawn_rows)
    return drawn_rows
