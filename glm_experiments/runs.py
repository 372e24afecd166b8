"""A run's folder -> its config, tokenizer and tuned model, for what comes after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glm_experiments.composing.saved import recompose
from glm_experiments.config import Config, parse
from glm_experiments.record.files import (
    ADAPTER,
    EVALUATIONS,
    MARKER,
    SAVED_CONFIG,
    numbered_checkpoints,
)
from glm_experiments.record.markers import what_is_broken
from glm_experiments.record.read_back import read_object, read_trained_config
from glm_experiments.spelling import nearest_word
from glm_experiments.training.checkpoints import STATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from glm_experiments.assembly import Assembly


# What a saved config that lacks or twists anything ends in.
SAVED_OTHERWISE = (AttributeError, LookupError, TypeError, ValueError, OmegaConfBaseException)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """A run, ready to answer. parts: what its model is made of."""

    folder: Path
    adapter: Path
    parts: Assembly
    model: PreTrainedModel


def read_config(run_dir: Path, overrides: list[str]) -> Config:
    """The config that a run was made with, with overrides.

    Raises:
        ValueError: for a folder that holds no run, for every bad override, and for one of the
            tuner: what was trained can't be had with other settings.
    """
    saved = read_trained_config(run_dir)
    if saved is None:
        near = nearest_run(run_dir)
        hint = (
            "type the folder of a run, e.g. outputs/identity/2026-01-01_12-00-00"
            if near is None
            else f"did you mean {near}?"
        )
        raise ValueError(f"{run_dir} is no run's folder (it has no {SAVED_CONFIG}); {hint}")
    try:
        config = parse(recompose(OmegaConf.create(dict(saved)), overrides))
    except SAVED_OTHERWISE:
        check_saved(saved, run_dir)
        raise
    for override in overrides:
        if override.lstrip("+~").startswith(("tuner=", "tuner.")):
            raise ValueError(
                f"{override}: {run_dir} was trained with {config.tuner.name} as it is; leave it "
                "out, or train anew with glm-train"
            )
    return config


def check_saved(saved: Mapping[str, Any], run_dir: Path) -> None:
    """See that a saved config is one: else no override is to blame.

    Raises:
        ValueError: naming the folder.
    """
    try:
        OmegaConf.to_object(recompose(OmegaConf.create(dict(saved)), []))
    except SAVED_OTHERWISE as error:
        first_line = str(error).partition("\n")[0]
        raise ValueError(
            f"the config that is saved in {run_dir} can't be used: {first_line}; copy the folder "
            "again"
        ) from error


def nearest_run(folder: Path) -> Path | None:
    """The run that a folder lies in, the youngest below it (those that trained come first), or of
    its neighbours the one with the likeliest name."""
    for parent in folder.parents:
        if (parent / SAVED_CONFIG).is_file():
            return parent
    if folder.is_dir() and (below := list(folder.rglob(str(SAVED_CONFIG)))):
        youngest = max(
            below, key=lambda file: ((file.parents[1] / ADAPTER).is_dir(), file.stat().st_mtime)
        )
        return youngest.parents[1]
    beside = {file.parents[1].name: file for file in folder.parent.glob(f"*/{SAVED_CONFIG}")}
    name = nearest_word(folder.name, beside)
    return None if name is None else beside[name].parents[1]


def is_part_of_run(folder: Path) -> bool:
    """Whether a folder is what a run itself keeps of what it trained: then the run is meant."""
    around = folder.resolve().parents[:2]  # the run, or a checkpoint and the run
    return folder.resolve().name == ADAPTER and any(
        (parent / SAVED_CONFIG).is_file() for parent in around
    )


def find_adapter(run_dir: Path, checkpoint: str) -> Path:
    """The folder of what was trained: at the end (last), at the best step, or at step N.

    Raises:
        ValueError: where there is none, naming those that exist.
    """
    from glm_experiments.training import checkpoints

    numbered = numbered_checkpoints(run_dir)
    if checkpoint == "last":
        if (run_dir / ADAPTER).is_dir():
            check_adapter(run_dir / ADAPTER)
            return run_dir / ADAPTER
        whole = checkpoints.find_last_complete(run_dir)
        if whole is None:
            raise ValueError(
                f"{run_dir} has neither an adapter nor a complete checkpoint; "
                "continue the run with the command that started it"
            )
        return whole / ADAPTER
    step = best_step(run_dir) if checkpoint == "best" else checkpoint
    known = ", ".join(map(str, numbered)) or "none"
    if step is None:
        raise ValueError(
            f"{run_dir} measured no validation loss while training, so no checkpoint is its best; "
            f"type --checkpoint last or the step of one (there are: {known})"
        )
    if not str(step).isdecimal() or int(step) not in numbered:
        raise ValueError(
            f"--checkpoint {checkpoint}: {run_dir} has no checkpoint of step {step}; type best, "
            f"last or one of: {known}"
        )
    folder = numbered[int(step)]
    if (problem := what_is_broken(folder)) is not None:
        raise ValueError(f"{folder} can't be used: {problem}; type another --checkpoint ({known})")
    return folder / ADAPTER


def check_adapter(folder: Path) -> None:
    """See that a run's adapter is as it was written; one of an older version doesn't say.

    Raises:
        ValueError: naming the file that isn't.
    """
    if (folder / MARKER).is_file() and (problem := what_is_broken(folder)) is not None:
        raise ValueError(
            f"{folder} can't be used: {problem}; copy it again, or type --checkpoint and the step "
            "of a checkpoint"
        )


def best_step(run_dir: Path) -> int | None:
    """The step of the lowest validation loss, from the youngest checkpoint's own state."""
    for folder in reversed(numbered_checkpoints(run_dir).values()):
        if (folder / STATE).is_file() and (folder / MARKER).is_file():
            step = read_object(folder / STATE).get("best_global_step")
            return step if isinstance(step, int) else None
    return None


def new_evaluation_folder(run_dir: Path, *, now: datetime) -> Path:
    """A fresh folder below the run's `evaluations`."""
    name = now.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = run_dir / EVALUATIONS / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # of another evaluation that began in this second
            number += 1
        else:
            return folder


def load_run(run_dir: Path, *, config: Config, checkpoint: str) -> LoadedRun:
    """Load base, tokenizer and what was trained: on one device, or split as the run was.

    Several processes or replicas train faster; one answers as well.

    Raises:
        ValueError: for a run or checkpoint that can't be used.
        RuntimeError: for a device that is not there.
    """
    from glm_experiments.assembly import assemble, resolve_dtype
    from glm_experiments.parallelism.strategies import choose_for_answers
    from glm_experiments.tuners import load_adapter

    adapter = find_adapter(run_dir, checkpoint)
    strategy = choose_for_answers(config.parallelism)
    parts = assemble(resolve_dtype(config, strategy), strategy, texts=(), folder=run_dir)
    model = load_adapter(parts.load_base(parts.plan_devices()), adapter)
    return LoadedRun(folder=run_dir, adapter=adapter, parts=parts, model=model)
