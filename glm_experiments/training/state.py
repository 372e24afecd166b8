"""What training changed, as whole tensors by parameter name: read out of a model, put back."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

State = dict[str, torch.Tensor]


class Adapter(Protocol):
    """How a tuner's state is kept on disk."""

    def save(self, folder: Path, state: State) -> None:
        """Write `state` into `folder`, with all that is needed to use it."""

    def read(self, folder: Path) -> State:
        """The state that `save` wrote into `folder`."""


def trainable_state(model: nn.Module) -> State:
    """Copies of all trainable parameters on the CPU, sharded ones gathered (on every process)."""
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            value = parameter.detach()
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            state[name] = whole.to("cpu", copy=True)
    return state


@torch.no_grad()
def restore_state(model: nn.Module, state: State) -> None:
    """Copy `state` into the trainable parameters, in place.

    Raises:
        ValueError: where names or shapes differ.
    """
    trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
    if trainable.keys() != state.keys():
        odd = sorted(trainable.keys() ^ state.keys())
        raise ValueError(
            f"the saved state belongs to another tuner: {odd[0]} is only on one side; "
            "type the tuner's former settings, or training.resume=never"
        )
    for name, parameter in trainable.items():
        value = state[name]
        if value.shape != parameter.shape:
            raise ValueError(
                f"the saved {name} has the shape {tuple(value.shape)}, the model wants "
                f"{tuple(parameter.shape)}; type the tuner's former settings, or "
                "training.resume=never"
            )
        if isinstance(parameter, DTensor):
            value = distribute_tensor(
                value.to(parameter.device), parameter.device_mesh, parameter.placements
            )
        parameter.copy_(value)
