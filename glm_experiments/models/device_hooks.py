"""What accelerate and the Trainer keep on a model whose parts lie on several devices.

All that is theirs of it is named here; where parts lie is decided elsewhere.
"""

import types
from collections.abc import Mapping

import torch
from torch import nn

# accelerate 1.15: on every module that a hook wraps, the hook and the method that it wraps.
HOOK, WRAPPED = "_hf_hook", "_old_forward"


def mark_split(model: nn.Module, device_map: Mapping[str, torch.device]) -> None:
    """Let the Trainer know a split model, which it then neither moves nor replicates."""
    model.__dict__["hf_device_map"] = dict(device_map)


def renew_hooked_forward(model: nn.Module) -> None:
    """After a change of a model's class: let the model's hook, if any, wrap the new `forward`."""
    if WRAPPED in model.__dict__:
        setattr(model, WRAPPED, types.MethodType(type(model).forward, model))


def remove_hooks(model: nn.Module) -> None:
    """Take accelerate's hooks off every module."""
    from accelerate.hooks import remove_hook_from_module

    for module in model.modules():
        if HOOK in module.__dict__:
            remove_hook_from_module(module)
            module.__dict__.pop("forward", None)  # the class's own is in force again
