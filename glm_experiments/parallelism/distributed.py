"""DistributedDataParallel: a whole model in every process, gradients averaged once a step."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.parallel import DistributedDataParallel


def replicate(model: nn.Module, *, device: str) -> DistributedDataParallel:
    """The model as the training loop calls it, in every process."""
    with warnings.catch_warnings():
        # torch 2.13 renames broadcast_buffers to what 2.11 does not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=None if device == "cpu" else [device],
            broadcast_buffers=False,  # tables, which nothing changes
            gradient_as_bucket_view=True,
        )
