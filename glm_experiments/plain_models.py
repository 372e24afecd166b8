"""A model without a run -> its config, and the model that answers: one that an option names, not
tuned, or a folder that glm-export wrote.

A run's folder is read in `runs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from glm_experiments.composing.checking import check_jobs
from glm_experiments.composing.loader import build_loader
from glm_experiments.config import Config, Dtype, PromptFormat, Weights, join_problems
from glm_experiments.record.files import ADAPTER_DESCRIPTION, EXPORT_DESCRIPTION
from glm_experiments.record.read_back import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from glm_experiments.assembly import Assembly

NO_MEANING = {
    **dict.fromkeys(("hydra.", "sweep="), "that is for glm-train"),
    **dict.fromkeys(("tuner=", "tuner."), "nothing is tuned here"),
}
"""How overrides begin that have no meaning for a model without a run -> why."""
SAY_CONTEXT_LENGTH = ("data.context_length=", "data=", "experiment=")
OWN = ("model=", "model.path=", "model.prompt_format=", "model.weights=", "data.prompt_format=")
"""The same of an exported folder, which says it itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """Where the weights of an export lie, and how they are used."""

    path: str
    dtype: Dtype
    prompt_format: PromptFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainModel:
    """A model that is ready to answer. parts: what it is made of."""

    parts: Assembly
    model: PreTrainedModel


def is_export(folder: Path) -> bool:
    """Whether glm-export wrote a folder: a model of its own, or an adapter in its smallest form."""
    return any((folder / name).is_file() for name in (EXPORT_DESCRIPTION, ADAPTER_DESCRIPTION))


def check_folder(typed: Path) -> None:
    """Tell the bare name of a model from a folder that isn't there.

    Raises:
        ValueError: for it, with what to type.
    """
    if not typed.exists() and str(typed) in build_loader().get_group_options("model"):
        raise ValueError(f"there is no folder {typed}; type model={typed} for the model, not tuned")


def compose_untuned(overrides: Sequence[str]) -> Config:
    """The config of a model as `model=` names it, the rest as glm-train would have it.

    Raises:
        ValueError: for every bad override, one of the tuner, and a model without weights.
    """
    config = compose_without_run(overrides, refused={})
    if config.model.weights is Weights.random:
        raise ValueError(
            f"model.weights=random of {config.model.name} answers nothing; type the folder of a "
            "run that trained it, or model.weights=pretrained"
        )
    return config


def read_export(folder: Path, overrides: Sequence[str]) -> Config:
    """The config of what was exported to a folder: its own weights, dtype and prompt format.

    Raises:
        ValueError: for every bad override, one of what the folder itself says, and for a folder
            that lacks what glm-export writes.
    """
    said = read_description(folder)
    refused = dict.fromkeys(OWN, f"{folder} says it itself")
    config = compose_without_run(overrides, refused=refused)
    is_typed = any(override.startswith("model.dtype=") for override in overrides)
    model = replace(
        config.model,
        name=folder.resolve().name,
        path=said.path,
        revision=None,
        dtype=config.model.dtype if is_typed else said.dtype,
        weights=Weights.pretrained,
        prompt_format=said.prompt_format,
    )
    data = replace(config.data, prompt_format=said.prompt_format)
    return replace(config, model=model, data=data)


def compose_without_run(overrides: Sequence[str], *, refused: Mapping[str, str]) -> Config:
    """The config of a model that no run made, as of one job.

    refused: how overrides begin that have no meaning for it, beside `NO_MEANING` -> why.

    Raises:
        ValueError: with every problem, one a line.
    """
    reasons = {**NO_MEANING, **refused}
    problems = {
        override: f"{override}: {why}; leave it out"
        for start, why in reasons.items()
        for override in overrides
        if override.lstrip("+~").startswith(start)
    }
    rest = [override for override in overrides if override not in problems]
    found = list(problems.values())
    try:
        ((_, config),) = check_jobs(rest).jobs
    except ValueError as error:
        found += [line.removeprefix("- ") for line in str(error).splitlines()]
    if found:
        raise ValueError(join_problems(found))
    return config


def load_plain(
    config: Config, *, overrides: Sequence[str], adapter: Path | None = None
) -> PlainModel:
    """Load base and tokenizer, and what lies in `adapter`: on one device, or with layers split.

    Where no context length was typed, it is the model's own; of a model that ships with the
    package the default, which is no longer than the rows that it was trained on.

    Raises:
        ValueError: for a model or adapter that can't be used.
        RuntimeError: for a device that is not there.
    """
    from glm_experiments.assembly import assemble, resolve_dtype
    from glm_experiments.models.published.locations import is_shipped
    from glm_experiments.parallelism.strategies import choose_for_answers
    from glm_experiments.tuners import load_adapter

    strategy = choose_for_answers(config.parallelism)
    parts = assemble(resolve_dtype(config, strategy), strategy, texts=(), folder=Path())
    model = parts.load_base(parts.plan_devices(tune=leave_untuned))
    if adapter is not None:
        model = load_adapter(model, adapter)
    is_typed = any(override.startswith(SAY_CONTEXT_LENGTH) for override in overrides)
    if not is_typed and parts.longest is not None and not is_shipped(config.model.path):
        data = replace(config.data, context_length=parts.longest)
        parts = replace(parts, config=replace(parts.config, data=data))
    return PlainModel(parts=parts, model=leave_untuned(model))


def leave_untuned(model: PreTrainedModel) -> PreTrainedModel:
    """What a tuner would be to a model that only answers."""
    model.requires_grad_(False)
    model.train(False)
    return model


def adapter_in(folder: Path) -> Path | None:
    """The folder itself, where it holds an adapter for a base that lies elsewhere."""
    return folder if (folder / ADAPTER_DESCRIPTION).is_file() else None


def read_description(folder: Path) -> Description:
    """What a folder that glm-export wrote says of itself.

    Raises:
        ValueError: for one that lacks it.
    """
    file = folder / EXPORT_DESCRIPTION
    if adapter_in(folder) is not None:
        file = folder / ADAPTER_DESCRIPTION
        described = read_object(file)
        base = described.get("base")
        weights = base if isinstance(base, dict) else {}
    else:
        described = read_object(file)
        native = read_object(folder / "config.json")
        dtype = native.get("dtype") or native.get("torch_dtype") or Dtype.auto
        weights = {"name": str(folder), "dtype": dtype}
    try:
        return Description(
            path=str(weights["name"]),
            dtype=Dtype(weights["dtype"]),
            prompt_format=PromptFormat(described["prompt_format"]),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{file} lacks what glm-export writes ({error}); export the run again"
        ) from None
