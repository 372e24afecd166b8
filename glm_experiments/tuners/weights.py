"""Tensors by name -> the parameters of a model, all checked before one is copied."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

State = dict[str, torch.Tensor]


@torch.no_grad()
def fill(
    model: PreTrainedModel,
    state: State,
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
