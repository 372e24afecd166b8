"""What chat and evaluate are about: a run's folder, one that glm-export wrote, or a model as an
option names it, not tuned. Decides which of them was typed, and knows no question and no answer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from glm_experiments import plain_models, runs
from glm_experiments.commands.command_line import build_parser
from glm_experiments.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from glm_experiments.assembly import Assembly

UNTUNED = "-untuned"
OUTPUTS = Path("outputs")
LAST = "last"


class Answering(Protocol):
    """A loaded model and what it is made of."""

    @property
    def parts(self) -> Assembly: ...
    @property
    def model(self) -> PreTrainedModel: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a command is about, checked as far as that takes no library.

    title: names it to a reader. folder: below which what is measured of it is kept. when: it is
    measured as before or after tuning. described: the same for a record.
    """

    config: Config
    name: str
    title: str
    folder: Path
    load: Callable[[], Answering]
    overrides: list[str]
    when: Literal["before", "after"] = "after"
    described: Mapping[str, str] = field(default_factory=dict)


def build_subject_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser of a command on a run, an export or an untuned model."""
    what = "folder of a run, or one that glm-export wrote; without it: model=NAME, not tuned"
    return build_parser(name, description, subject=what, num_subjects="?")


def find_subject(arguments: argparse.Namespace) -> Subject:
    """What was typed.

    Raises:
        ValueError: for nothing to talk about, a folder that holds none of these, every bad
            override, and a checkpoint of what has none.
    """
    folder, overrides = sort_words(arguments)
    if folder is None:
        check_no_checkpoint(arguments, "a model that is not tuned")
        config = plain_models.compose_untuned(overrides)
        name = config.model.name + UNTUNED
        return Subject(
            config=config,
            name=name,
            title=f"{config.model.name}, not tuned",
            folder=OUTPUTS / name,
            load=partial(plain_models.load_plain, config, overrides=overrides),
            overrides=overrides,
            when="before",
            described={"model": config.model.path},
        )
    if plain_models.is_export(folder) and not runs.is_part_of_run(folder):
        check_no_checkpoint(arguments, "an exported folder")
        config = plain_models.read_export(folder, overrides)
        adapter = plain_models.adapter_in(folder)
        return Subject(
            config=config,
            name=config.model.name,
            title=f"{config.model.name}, exported to {folder}",
            folder=folder,
            load=partial(plain_models.load_plain, config, overrides=overrides, adapter=adapter),
            overrides=overrides,
            described={"export": str(folder)},
        )
    plain_models.check_folder(folder)
    config = runs.read_config(folder, overrides)
    checkpoint = arguments.checkpoint
    adapter = runs.find_adapter(folder, checkpoint)
    return Subject(
        config=config,
        name=config.name,
        title=f"{config.model.name}, {adapter}",
        folder=folder,
        load=partial(runs.load_run, folder, config=config, checkpoint=checkpoint),
        overrides=overrides,
        described={"run": str(folder), "checkpoint": checkpoint, "adapter": str(adapter)},
    )


def sort_words(arguments: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """The folder, if one was typed, and the overrides; a folder's name may hold an equals sign."""
    words = [str(arguments.run_dir)] if arguments.run_dir is not None else []
    words += arguments.overrides
    folders = [word for word in words if "=" not in word or Path(word).is_dir()]
    if not words:
        raise ValueError("type a run's folder, one that glm-export wrote, or e.g. model=tiny_glm")
    if folders:
        words.remove(folders[0])
    return (Path(folders[0]) if folders else None), words


def check_no_checkpoint(arguments: argparse.Namespace, what: str) -> None:
    """Refuse a checkpoint of what has only one state."""
    if arguments.checkpoint != LAST:
        raise ValueError(
            f"--checkpoint {arguments.checkpoint}: {what} has one state; leave it out, or type the "
            "folder of a run"
        )
