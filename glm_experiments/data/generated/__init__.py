"""Seeded data sets that the package writes itself: no file, no download, no foreign text."""

from glm_experiments.data.generated.general import (
    GENERAL_KINDS,
    general_questions,
    replay_questions,
)
from glm_experiments.data.generated.identity import IDENTITY_KINDS, identity_questions
from glm_experiments.data.generated.question import GeneratedQuestion

__all__ = [
    "GENERAL_KINDS",
    "IDENTITY_KINDS",
    "GeneratedQuestion",
    "general_questions",
    "identity_questions",
    "replay_questions",
]
