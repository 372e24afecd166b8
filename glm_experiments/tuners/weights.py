"""A file -> tensors by name -> the parameters of a model, all checked before one is copied.

Also which of them train.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.models.published.settings_files import MISREADINGS

Tensors = dict[str, torch.Tensor]


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable parameters and of all."""
    trainable = sum(each.numel() for each in trainable_parameters(model).values())
    return trainable, sum(each.numel() for each in model.parameters())


def read_tensors(file: Path) -> Tensors:
    """The tensors of a safetensors file, or of one that torch.save wrote; runs none of its code.

    Raises:
        ValueError: naming the file, where it is damaged or holds anything else.
    """
    try:
        content: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} is damaged, or holds more than tensors: loading that could run code, so it is "
            "refused; copy the file again, or convert it to safetensors where you trust it"
        ) from error
    except (*MISREADINGS, SafetensorError, OSError, EOFError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ValueError(f"{file} can't be read ({reason}); copy the file again") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in content.items()
    ):
        raise ValueError(
            f"{file} holds no plain dict of tensors by name; save the adapter's state dict alone"
        )
    if not content:
        raise ValueError(f"{file} holds no tensor; there is no adapter in it")
    return content


@torch.no_grad()
def fill(
    model: PreTrainedModel,
    state: Tensors,
    *,
    source: Path,
    base: str | None = None,
    expected: set[str] | None = None,
) -> None:
    """Copy `state` into parameters, each on its device and in its precision.

    source: the file or folder that the tensors come from; base: the model it was made for, where
    known; expected: the names that must be there, None: whatever there is.

    Raises:
        ValueError: where names or shapes differ, with both bases' names.
    """
    parameters = dict(model.named_parameters())
    problems = [f"it lacks {name}" for name in sorted((expected or set()) - state.keys())]
    for name, value in sorted(state.items()):
        if name not in parameters or (expected is not None and name not in expected):
            problems.append(f"the model has no place for {name}")
        elif value.shape != parameters[name].shape:
            problems.append(
                f"{name} is {tuple(value.shape)}, the model wants {tuple(parameters[name].shape)}"
            )
    if problems:
        raise misfit(model, problems, source=source, base=base)
    for name, value in state.items():
        parameters[name].copy_(value)


def misfit(
    model: PreTrainedModel, problems: list[str], *, source: Path, base: str | None
) -> ValueError:
    """The error that names an adapter, both bases and the first of the problems."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ValueError(
        f"the adapter {source}, made for {base or 'a base that it does not name'}, does not fit "
        f"{model.name_or_path}: {problems[0]}{more}; load the base it was made for"
    )
