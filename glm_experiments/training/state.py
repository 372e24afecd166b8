"""What training changed, as whole tensors by parameter name: read out of a model, put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
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
    shed_gathered(model)
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            state[name] = whole(parameter.detach()).to("cpu", copy=True)
    return state


@torch.no_grad()
def restore_state(model: nn.Module, state: State) -> None:
    """Copy `state` into the trainable parameters, in place.

    Raises:
        ValueError: where names or shapes differ.
    """
    shed_gathered(model)
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
        parameter.copy_(shared_like(parameter, value))


def whole_optimizer_state(optimizer: Any) -> dict[str, Any]:
    """An optimizer's state dict as one device alone would have it; all processes must ask."""
    state: dict[str, Any] = optimizer.state_dict()
    moments = {
        index: {
            name: whole(value) if isinstance(value, torch.Tensor) else value
            for name, value in each.items()
        }
        for index, each in state["state"].items()
    }
    return {**state, "state": moments}


def restore_optimizer_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Put a whole state dict back, each process its part."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    moments = {
        index: {
            name: shared_like(parameters[index], value)
            if isinstance(value, torch.Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in each.items()
        }
        for index, each in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor gathered, any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole `value`, where `parameter` is sharded."""
    if not isinstance(parameter, DTensor):
        return value
    # All have the same value: nothing needs to be sent.
    return distribute_tensor(
        value.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        src_data_rank=None,
    )


def shed_gathered(model: nn.Module) -> None:
    """Let sharded weights be parts again: those of the last forward pass are kept gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
