"""The modules that LoRA adds to a model: put in, merged, taken out, and their names in files."""

from __future__ import annotations

import re

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

ADAPTER_NAME = "default"
# Parameter `X.lora_A.default.weight` of a model is `base_model.model.X.lora_A.weight` in a file.
_FILE_PREFIX = "base_model.model."
_IN_MODEL = re.compile(rf"(\.lora_\w+)\.{ADAPTER_NAME}(?=\.|$)")
_IN_FILE = re.compile(rf"(\.lora_\w+)(?:\.{ADAPTER_NAME})?(?=\.|$)")
_MAGNITUDE = "lora_magnitude_vector"


class InputDtypeLinear(nn.Linear):
    """A small linear kept in float32 that computes in its input's precision.

    peft would rather cast the input up, which costs memory and speed at every adapted module.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features), in the dtype of `input`."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return nn.functional.linear(input, self.weight.to(input.dtype), bias)


def inject(model: PreTrainedModel, config: peft.LoraConfig, *, dtype: torch.dtype) -> None:
    """Insert adapters of the given dtype; they alone are trainable afterwards."""
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER_NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    for layer in lora_layers(model):
        # DoRA reads the adapters' weights itself and wants peft's way of casting.
        if not layer.lora_variant:
            layer.cast_input_dtype_enabled = False
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.__class__ = InputDtypeLinear


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    """The adapted modules, in the model's order."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def merge_lora(model: PreTrainedModel) -> None:
    """Add the adapters to the weights beside them and take them away."""
    for layer in lora_layers(model):
        layer.merge()
    remove_lora(model)


def remove_lora(model: PreTrainedModel) -> None:
    """Take the adapters away, if there are any; the weights beside them stay as they are."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module.get_base_layer())
    vars(model).pop("peft_config", None)


def to_file_name(name: str) -> str:
    """A parameter's name -> its name in peft's files."""
    name = _IN_MODEL.sub(r"\1", name)
    return _FILE_PREFIX + name.replace(f"{_MAGNITUDE}.weight", _MAGNITUDE)


def from_file_name(name: str) -> str:
    """A name in peft's files -> the parameter's name."""
    name = _IN_FILE.sub(rf"\1.{ADAPTER_NAME}", name.removeprefix(_FILE_PREFIX))
    return f"{name}.weight" if name.endswith(f"{_MAGNITUDE}.{ADAPTER_NAME}") else name
