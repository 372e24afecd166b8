"""Generated questions -> samples to train on and validation sets.

Knows which sets an experiment has; what the questions are stands in `generated/`.
"""

from collections.abc import Callable, Sequence
from random import Random

from glm_experiments.config import MOST_GENERATED_ROWS, DataConfig, GeneralConfig, IdentityConfig
from glm_experiments.data.conversations import Conversation, Message
from glm_experiments.data.generated import (
    FEW_EARLIER,
    Draw,
    GeneratedQuestion,
    draw_general,
    general_questions,
    identity_questions,
    precede,
    put_in_turns,
    replay_questions,
    second_questions,
)
from glm_experiments.data.row_parsing import Sample

Samples = list[Sample]


def generate_general(config: GeneralConfig) -> tuple[Samples, dict[str, Samples]]:
    """General questions to train on, and the sets `general` and `second_turns`.

    Raises:
        ValueError: no number of training rows, or more validation rows than there are.
    """
    if config.num_train_rows is None:
        raise ValueError(
            "data=general can write any number of rows; type e.g. data.num_train_rows=10000"
        )
    rows = general_questions(num_rows=config.num_train_rows, seed=config.split_seed, split="train")
    held_out = _generate_general_validation(config, draw=_draw_held_out)
    return _build_samples(rows, "general"), held_out


def generate_identity(config: IdentityConfig) -> tuple[Samples, dict[str, Samples]]:
    """Identity questions to train on, among them general ones by `replay_share`, many of both
    behind others; the sets `identity`, `general` and `second_turns`.

    Of `identity`, every other question is asked after a general one; of `second_turns`, about
    every other general question after one of the identity.

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
    rng = Random(f"replay {seed}")

    def draw_earlier(rng: Random) -> GeneratedQuestion:
        return rng.choice(own) if rng.random() >= share else draw_general(rng, split="train")

    train = [
        sample
        for rows, name in ((own, "identity"), (replayed, "general"))
        for sample in _build_samples(
            put_in_turns(rows, rng, draw=draw_earlier, num_earlier=FEW_EARLIER), name
        )
    ]
    rng.shuffle(train)
    asked = identity_questions(**names, num_rows=None, seed=seed, split="validation")

    def draw_first(rng: Random) -> GeneratedQuestion:
        return rng.choice(asked) if rng.random() < 0.5 else _draw_held_out(rng)

    def generate_own(num: int) -> list[GeneratedQuestion]:
        rows = identity_questions(**names, num_rows=num, seed=seed, split="validation")
        rng = Random(f"identity in turn {seed}")
        return [
            precede(row, rng, num_earlier=1, draw=_draw_held_out) if number % 2 else row
            for number, row in enumerate(rows)
        ]

    held_out = _generate_validation(config, "identity", generate_own)
    return train, held_out | _generate_general_validation(config, draw=draw_first)


def _draw_held_out(rng: Random) -> GeneratedQuestion:
    return draw_general(rng, split="validation")


def _generate_general_validation(config: DataConfig, *, draw: Draw) -> dict[str, Samples]:
    """The sets of general questions; draw: of what is asked before those of `second_turns`."""
    seed = config.split_seed
    return _generate_validation(
        config,
        "general",
        lambda num: general_questions(num_rows=num, seed=seed, split="validation"),
    ) | _generate_validation(
        config, "second_turns", lambda num: second_questions(num_rows=num, seed=seed, draw=draw)
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
    file = f"generated {name.replace('_', ' ')} questions"
    return [
        Conversation(
            tuple(message for turn in (*row.earlier, row) for message in _write_turn(turn)),
            file,
            number,
            row.kind,
        )
        for number, row in enumerate(questions, start=1)
    ]


def _write_turn(turn: GeneratedQuestion) -> tuple[Message, Message]:
    return Message("user", turn.question), Message("assistant", turn.answer)
