"""How generated questions become conversations: which of them others come before, and how many.

Knows no list of kinds: what comes before is drawn by whoever asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from glm_experiments.data.generated.follow_ups import Draw
from glm_experiments.data.generated.question import GeneratedQuestion

LATER_SHARE = 0.4
"""Of the training questions, those that others come before."""
NUM_EARLIER: Mapping[int, int] = {1: 6, 2: 2, 3: 1, 4: 1}
"""So many others -> weight."""
FEW_EARLIER: Mapping[int, int] = {1: 3, 2: 1}
"""The same where a model is taught that knows long conversations already: short rows cost less."""
ONCE = frozenset({"identity"})
"""Kinds of which a conversation has one at most: another of the pretraining's identity questions
would have other names, or none."""


def put_in_turns(
    rows: Sequence[GeneratedQuestion],
    rng: Random,
    *,
    draw: Draw,
    num_earlier: Mapping[int, int] = NUM_EARLIER,
) -> list[GeneratedQuestion]:
    """`rows` in their order, a share of them behind earlier questions that are drawn."""
    numbers, weights = list(num_earlier), list(num_earlier.values())
    return [
        precede(row, rng, num_earlier=rng.choices(numbers, weights)[0], draw=draw)
        if rng.random() < LATER_SHARE
        else row
        for row in rows
    ]


def precede(
    row: GeneratedQuestion, rng: Random, *, num_earlier: int, draw: Draw
) -> GeneratedQuestion:
    """The same question in a conversation that begins with so many more."""
    earlier: list[GeneratedQuestion] = []
    while len(earlier) < num_earlier:
        drawn = draw(rng)
        said = {each.kind for each in (*earlier, *row.earlier, row)}
        if drawn.kind not in said & ONCE:
            earlier.append(drawn)
    return replace(row, earlier=(*earlier, *row.earlier))
