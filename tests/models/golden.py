"""The recorded behaviour of the original code: folders, their cases, their gradients' names."""

from typing import Any

import torch
from safetensors.torch import load_file

from glm_experiments.models.published.layout_finding import find_layout
from tests.shared_data import SHARED

GOLDEN = SHARED / "golden"
WHOLE = ("chatglm", "chatglm2", "chatglm3")
QUANTIZED = ("chatglm-int8", "chatglm-int4", "chatglm2-int8", "chatglm2-int4")


def load_case(folder: str, case: str) -> dict[str, torch.Tensor]:
    """The tensors of one case, by the last part of their names."""
    tensors = load_file(GOLDEN / folder / "cases.safetensors")
    return {
        name.removeprefix(f"{case}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{case}.")
    }


def native_gradients(folder: str, case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Recorded gradients under the native module's names."""
    convert: Any = find_layout(GOLDEN / folder, name=folder).convert
    return {
        target: part
        for name, tensor in case.items()
        if name.startswith("grad.")
        for target, part in convert(name.removeprefix("grad."), tensor)
    }


def largest_difference(found: torch.Tensor, recorded: torch.Tensor) -> float:
    """As a share of the largest recorded value."""
    return float(((found - recorded).abs().max() / recorded.abs().max()).detach())
