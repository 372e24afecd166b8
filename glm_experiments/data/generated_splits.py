"""Generated questions -> samples to train on and validation sets.

Knows which sets an experiment has; what the questions are stands in `generated/`.
"""

from collections.abc import Callable, Sequence
from random import Random

from glm_experiments.config import MOST_GENERATED_ROWS, DataConfig, GeneralConfig, IdentityConfig
from glm_experiments.data.conversations import Conversation, Message
from glm_experiments.data.generated import (
    GeneratedQuestion,
    general_questions,
    identity_questions,
    replay_questions,
)
from glm_experiments.data.row_parsing import Sample

Samples = list[Sample]


def generate_general(config: GeneralConfig) -> tuple[Samples, dict[str, Samples]]:
    """General questions to train on, and the set `general`.

    Raises:
        ValueError: no number of training rows, or more validation rows than there are.
    """
    if config.num_train_rows is None:
        raise ValueError(
            "data=general can write any number of rows; type e.g. data.num_train_rows=10000"
        )
    rows = general_questions(num_rows=config.num_train_rows, seed=config.split_seed, split="train")
    return _build_samples(rows, "general"), _generate_general_validation(config)


def generate_identity(config: IdentityConfig) -> tuple[Samples, dict[str, Samples]]:
    """Identity questions to train on, among them general ones by `replay_share`; both sets.

    Raises:
        ValueError: more validation rows than there are wordings.
    """
    names = {"assistant_name": config.assistant_name, "author": config.author}
    seed, share, num_rows = config.split_seed, config.replay_share, config.num_train_rows
    num_own = None if num_rows is None else max(1, round(num_rows * (1 - share)))
    own = identity_questions(**names, num_rows=num_own, seed=seed, split="train")
    num_replayed = (num_rows or round(len(own) / (1 - share))) - len(own)
    if num_replayed > MOST_GENERATED_ROWS:
        raise ValueError(
            f"data.replay_share={share} makes {num_replayed} general rows beside {len(own)} of the "
            f"identity, of at most {MOST_GENERATED_ROWS}; type e.g. data.replay_share=0.65"
        )
    replayed = replay_questions(num_rows=num_replayed, seed=seed)
    train = _build_samples(own, "identity") + _build_samples(replayed, "general")
    Random(f"replay {seed}").shuffle(train)
    held_out = _generate_validation(
        config,
        "identity",
        lambda num: identity_questions(**names, num_rows=num, seed=seed, split="validation"),
    )
    return train, held_out | _generate_general_validation(config)


def _generate_general_validation(config: DataConfig) -> dict[str, Samples]:
    return _generate_validation(
        config,
        "general",
        lambda num: general_questions(num_rows=num, seed=config.split_seed, split="validation"),
    )


def _generate_validation(
    config: DataConfig, name: str, generate: Callable[[int], list[GeneratedQuestion]]
) -> dict[str, Samples]:
    """A validation set, if any is wanted."""
    num_rows = config.num_validation_rows
    if not num_rows:
        return {}
    try:
        return {name: _build_samples(generate(num_rows), name)}
    except ValueError as error:  # more identity questions than there are wordings
        raise ValueError(f"data.num_validation_rows={num_rows}: {error}") from None


def _build_samples(questions: Sequence[GeneratedQuestion], name: str) -> Samples:
    return [
        Conversation(
            (Message("user", row.question), Message("assistant", row.answer)),
            f"generated {name} questions",
            number,
            row.kind,
        )
        for number, row in enumerate(questions, start=1)
    ]
