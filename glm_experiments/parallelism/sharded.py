"""FSDP2: every process keeps a part of every weight, and gathers a layer while it computes.

The library's own way (the Trainer's, accelerate's) becomes DistributedDataParallel where there is
no GPU, so `fully_shard` is applied here. Knows models and no tuner.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from glm_experiments.config import ShardedConfig
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.parallelism.strategy import DevicePlan, MicroBatch, Strategy, Tune
from glm_experiments.parallelism.visible_devices import plan_local_device, plan_processes
from glm_experiments.processes.world import World


class ShardedStrategy(Strategy):
    """One process a device, each with its own samples and its part of every weight.

    All processes answer and measure alike: a sharded model computes only where all of them do.
    """

    def __init__(self, config: ShardedConfig, *, num_gpus: int, world: World | None) -> None:
        super().__init__(
            [plan_local_device(world, num_gpus=num_gpus)],
            num_processes=plan_processes(config, num_gpus=num_gpus, world=world),
            world=world,
        )

    def plan_devices(
        self,
        outline: Callable[[], PreTrainedModel],
        *,
        tune: Tune,
        micro_batch: MicroBatch,
    ) -> DevicePlan:
        super().plan_devices(outline, tune=tune, micro_batch=micro_batch)
        return DevicePlan(device_map={"": source_device()})

    def measurable(self, model: PreTrainedModel) -> PreTrainedModel:
        # Tuners change whole weights, so what is sharded here is another model.
        return shard(copy_structure(model), device=self.device)

    def settle(
        self, model: PreTrainedModel, settle: Callable[[PreTrainedModel], PreTrainedModel]
    ) -> None:
        # torch 2.13 gathers into buffers of the dtype that a weight had when it was sharded.
        return

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        # The gradients of the model's own weights are as large as what was sharded.
        return ShardedPasses(
            shard(model, device=self.device), reduces_every_pass=trains_own_weights
        )


def source_device() -> str:
    """Where each process loads a model that will be sharded: the main process has its numbers, on
    the host, and the others its shapes."""
    return "cpu" if dist.get_rank() == 0 else "meta"


def shard(model: PreTrainedModel, *, device: str) -> PreTrainedModel:
    """Split the weights of the main process's `model` over all processes, in place.

    A group of weights is gathered and freed together: each layer, and what stands around the
    layers. Trained and frozen weights may differ in dtype; all that train have one. Group after
    group is sent to each process's `device` and split there, so that the whole model has to fit
    the host's memory, once, and no device's.
    """
    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    layers = find_layers(model)
    for layer in layers:
        receive(layer.modules(), device=device)
        fully_shard(layer, mesh=mesh)
    in_layers = {id(module) for module in layers.modules()}
    receive((each for each in model.modules() if id(each) not in in_layers), device=device)
    model.tie_weights()
    fully_shard(model, mesh=mesh)
    return model


@torch.no_grad()
def receive(modules: Iterable[nn.Module], *, device: str) -> None:
    """Put the main process's parameters and buffers of these very modules on `device`."""
    for module in modules:
        if dist.get_rank():
            module.to_empty(device=device, recurse=False)
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(device)
            dist.broadcast(parameter.data, src=0)
        for name, buffer in module.named_buffers(recurse=False):
            received = buffer.to(device)
            dist.broadcast(received, src=0)
            setattr(module, name, received)


def copy_structure(model: PreTrainedModel) -> PreTrainedModel:
    """A second model of the same weights, which share their memory until one of them moves."""
    shared: dict[int, Any] = {id(each): each for each in model.buffers()}
    for each in model.parameters():
        shared[id(each)] = nn.Parameter(each.data, requires_grad=each.requires_grad)
    return copy.deepcopy(model, shared)


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
