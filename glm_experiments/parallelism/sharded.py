"""FSDP2: every process keeps a part of every weight, and gathers a layer while it computes.

The library's own way (the Trainer's, accelerate's) becomes DistributedDataParallel where there is
no GPU, so `fully_shard` is applied here. Knows models and no tuner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel


def shard(model: PreTrainedModel, *, device: str) -> PreTrainedModel:
    """Split the weights of `model`, the same in every process, over all processes, in place.

    A group of weights is gathered and freed together: each layer, and what stands around the
    layers. Trained and frozen weights may differ in dtype; all that train have one. Layer after
    layer moves to `device`, so the whole model needs no place there.
    """
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    layers = model.base_model.layers
    assert isinstance(layers, nn.ModuleList)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class ShardedPasses(nn.Module):
    """A sharded model as the training loop calls it.

    reduces_every_pass: hand the gradients on after every pass. Otherwise each process keeps whole
        ones until the step's last pass, which costs their memory and saves their traffic.
    """

    def __init__(self, model: nn.Module, *, reduces_every_pass: bool) -> None:
        super().__init__()
        self.module = model
        self.reduces_every_pass = reduces_every_pass

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's."""
        return self.module(*args, **kwargs)

    def no_sync(self) -> Any:
        """For passes that are not the last of their step."""
        return nullcontext() if self.reduces_every_pass else self._whole_gradients()

    @contextmanager
    def _whole_gradients(self) -> Iterator[None]:
        assert isinstance(self.module, FSDPModule)
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)
