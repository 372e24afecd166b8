"""Seeded data sets that the package writes itself: no file, no download, no foreign text."""

from glm_experiments.data.generated.follow_ups import Draw
from glm_experiments.data.generated.general import (
    GENERAL_KINDS,
    draw_general,
    general_questions,
    replay_questions,
    second_questions,
)
from glm_experiments.data.generated.identity import IDENTITY_KINDS, identity_questions
from glm_experiments.data.generated.question import GeneratedQuestion
from glm_experiments.data.generated.turns import FEW_EARLIER, precede, put_in_turns

__all__ = [
    "FEW_EARLIER",
    "GENERAL_KINDS",
    "IDENTITY_KINDS",
    "Draw",
    "GeneratedQuestion",
    "draw_general",
    "general_questions",
    "identity_questions",
    "precede",
    "put_in_turns",
    "replay_questions",
    "second_questions",
]
