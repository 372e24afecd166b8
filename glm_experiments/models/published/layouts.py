"""What a layout is: how a published folder's settings and tensors become a native model's.

Which layouts there are is for their modules, and which one a folder has for `layout_finding`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Converter = Callable[[str, torch.Tensor], "list[tuple[str, torch.Tensor]] | None"]
"""One stored tensor -> its tensors in the native module; [] for one that is not needed, None for a
name that the layout does not have."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a folder's config and tensors become a model; without a converter the library does it."""

    config: Any
    convert: Converter | None
    quantization_bit: int = 0
    dtype: str | None = None
    """Named in config.json."""
