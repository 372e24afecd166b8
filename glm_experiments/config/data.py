"""Which samples, in which form: one schema a kind of source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from glm_experiments.config.model import PromptFormat
from glm_experiments.config.rules import at_most, check, positive, within

MOST_GENERATED_ROWS = 2_000_000
"""Of one split; a million take about a minute and a GiB."""


class DataFormat(StrEnum):
    alpaca = "alpaca"
    prompt_response = "prompt_response"
    messages = "messages"
    sharegpt = "sharegpt"
    text = "text"


class OnBadRow(StrEnum):
    skip = "skip"
    error = "error"


class LongAnswers(StrEnum):
    cut = "cut"
    leave_out = "leave_out"
    stop = "stop"


class TrainOn(StrEnum):
    every_turn = "every_turn"
    last_turn = "last_turn"


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Which samples, in which form."""

    validation_sets: ClassVar[tuple[str, ...]] = ("validation",)
    """Names of what is held out; it is no setting. The first is the task's own and decides early
    stopping and the best checkpoint; the others show what is forgotten for it."""

    name: str
    prompt_format: PromptFormat
    """One form from training through evaluation to chat."""
    context_length: int
    """Tokens a training sample may have, answer included. What is held out is measured whole."""
    long_answers: LongAnswers
    """Of a training answer that is longer: cut trains what fits of it, without an end; leave_out
    leaves its row out; stop ends the run. Such rows are no bad ones."""
    packing: bool
    """Fill rows of `context_length` tokens with several samples that don't see each other."""
    train_on: TrainOn
    """Which of a conversation's answers carry loss."""
    num_train_rows: int | None
    """At most so many training rows; null: all."""
    num_validation_rows: int
    """Rows that every validation set has; 0: no validation."""
    split_seed: int
    """Seed of the generator or of the split into training and validation."""
    cache_dir: str | None
    """Folder that keeps token ids for later runs; null: in the user's cache folder."""

    def problems(self) -> list[str]:
        problems = positive(
            "data", {"context_length": self.context_length, "num_train_rows": self.num_train_rows}
        )
        check(
            problems,
            self.num_validation_rows >= 0,
            f"data.num_validation_rows is {self.num_validation_rows}; "
            "type 0 for no validation, or the number of rows to hold out",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class FilesConfig(DataConfig):
    """Rows from files or from a hub dataset."""

    path: Any
    """A file, a glob, a list of them, or a hub dataset's id."""
    validation_path: Any
    """As `path`; null: `num_validation_rows` are split off `path`."""
    revision: str | None
    """Of a hub dataset."""
    subset: str | None
    """Of a hub dataset: its configuration."""
    split: str
    """Of a hub dataset: the split that `path` means."""
    validation_split: str
    """Of a hub dataset: the split that `validation_path` means."""
    format: DataFormat | None
    """null: detected from the columns."""
    prompt_column: str | None
    """Of the form prompt_response; null: detected."""
    response_column: str | None
    history_column: str | None
    on_bad_row: OnBadRow
    """skip: count it, keep it in `rejected.jsonl`; error: stop."""
    max_bad_share: float
    """More bad rows than this share stop the run."""

    def problems(self) -> list[str]:
        problems = DataConfig.problems(self)
        problems += within("data", {"max_bad_share": self.max_bad_share}, 0, math.inf)
        for key, value in {"path": self.path, "validation_path": self.validation_path}.items():
            paths = value if isinstance(value, list) else [value]
            if key == "path" and (value is None or value == []):
                problems.append(
                    "data.path is not given; type data.path=FILE, a glob, "
                    "'data.path=[A,B]' or a hub dataset's id"
                )
            elif value is not None and not all(isinstance(path, str) for path in paths):
                problems.append(
                    f"data.{key} must be a file name or a list of them, got {value!r}; "
                    f"type e.g. data.{key}=train.jsonl"
                )
        return problems


@dataclass(kw_only=True, slots=True)
class GeneralConfig(DataConfig):
    """Bilingual questions with checkable answers, written by a seeded generator."""

    validation_sets: ClassVar[tuple[str, ...]] = ("general", "second_turns")

    def problems(self) -> list[str]:
        return DataConfig.problems(self) + generator_problems(self)


@dataclass(kw_only=True, slots=True)
class IdentityConfig(DataConfig):
    """Who are you, who made you: written by a seeded generator."""

    validation_sets: ClassVar[tuple[str, ...]] = ("identity", "general", "second_turns")

    assistant_name: str
    author: str
    replay_share: float
    """Share of the training rows that are general questions, against forgetting."""

    def problems(self) -> list[str]:
        problems = DataConfig.problems(self) + generator_problems(self)
        problems += within("data", {"replay_share": self.replay_share}, 0, 1)
        for key, value in {"assistant_name": self.assistant_name, "author": self.author}.items():
            check(problems, bool(value.strip()), f"data.{key} is blank; type data.{key}=NAME")
        return problems


def generator_problems(config: DataConfig) -> list[str]:
    """More rows than a generator can be asked for."""
    return at_most(
        "data",
        {
            "num_train_rows": config.num_train_rows,
            "num_validation_rows": config.num_validation_rows,
        },
        MOST_GENERATED_ROWS,
        because="generated rows are all kept in memory, about a GiB a million",
    )
