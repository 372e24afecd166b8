"""A model without a run -> its config, and the model that answers: one that an option names, not
tuned, or a folder that glm-export wrote.

A run's folder is read in `runs.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glm_experiments.composing.checking import compose_checked
from glm_experiments.composing.loader import build_loader
from glm_experiments.config import Config, Dtype, Weights, parse
from glm_experiments.record.files import ADAPTER_DESCRIPTION, EXPORT_DESCRIPTION
from glm_experiments.record.read_back import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from glm_experiments.assembly import Assembly

OWN = ("model.path", "data.prompt_format")
"""What an exported folder says of itself."""


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
    config = parse(compose_checked(list(overrides), refused={"tuner": "nothing is tuned here"}))
    if config.model.weights is Weights.random:
        raise ValueError(
            f"model.weights=random of {config.model.name} answers nothing; type the folder of a run "
            "that trained it, or model.weights=pretrained"
        )
    return config


def read_export(folder: Path, overrides: Sequence[str]) -> Config:
    """The config of what was exported to a folder: its own weights, dtype and prompt format.

    Raises:
        ValueError: for every bad override, one of what the folder itself says, and for a folder
            that lacks what glm-export writes.
    """
    path, dtype, prompt_format = _describe_export(folder)
    why = f"{folder} says it itself"
    refused = {"tuner": "nothing is tuned here", **dict.fromkeys(OWN, why)}
    cfg = compose_checked(list(overrides), refused=refused)
    cfg.model.name = folder.resolve().name
    cfg.model.path = path
    cfg.model.revision = None
    cfg.model.prompt_format = cfg.data.prompt_format = prompt_format
    if not any(override.startswith("model.dtype=") for override in overrides):
        cfg.model.dtype = dtype
    return parse(cfg)


def load_plain(config: Config, *, adapter: Path | None = None) -> PlainModel:
    """Load base and tokenizer, and what lies in `adapter`: on one device, or with layers split.

    Raises:
        ValueError: for a model or adapter that can't be used.
        RuntimeError: for a device that is not there.
    """
    from glm_experiments.assembly import assemble, resolve_dtype
    from glm_experiments.parallelism.strategies import choose_for_answers
    from glm_experiments.tuners import load_adapter

    strategy = choose_for_answers(config.parallelism)
    parts = assemble(resolve_dtype(config, strategy), strategy, texts=(), folder=Path())
    model = parts.load_base(parts.plan_devices())
    if adapter is not None:
        model = load_adapter(model, adapter)
    model.train(False)
    return PlainModel(parts=parts, model=model)


def adapter_in(folder: Path) -> Path | None:
    """The folder itself, where it holds an adapter for a base that lies elsewhere."""
    return folder if (folder / ADAPTER_DESCRIPTION).is_file() else None


def _describe_export(folder: Path) -> tuple[str, str, str]:
    """Path of the weights, their dtype, and the prompt format."""
    if adapter_in(folder) is not None:
        file = folder / ADAPTER_DESCRIPTION
        described = read_object(file)
        base = described.get("base")
        found: tuple[Any, ...] = (
            (base.get("name"), base.get("dtype"), described.get("prompt_format"))
            if isinstance(base, dict)
            else (None,)
        )
    else:
        file = folder / EXPORT_DESCRIPTION
        native = read_object(folder / "config.json")
        dtype = native.get("dtype") or native.get("torch_dtype") or str(Dtype.auto)
        found = (str(folder), dtype, read_object(file).get("prompt_format"))
    if not all(isinstance(each, str) for each in found):
        raise ValueError(f"{file} lacks what glm-export writes; export the run again")
    path, dtype, prompt_format = found
    return path, dtype, prompt_format
