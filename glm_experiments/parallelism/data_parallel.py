"""One process, one replica of the model a device: frozen weights are sent once, what trains in
every forward pass, differentiably, so that gradients add up on the first device."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import DataParallelConfig
from glm_experiments.parallelism.strategy import Strategy
from glm_experiments.parallelism.visible_devices import check_alone, plan_devices
from glm_experiments.processes.world import World

Batch = dict[str, torch.Tensor]


class DataParallelStrategy(Strategy):
    """One process; one micro batch a replica."""

    def __init__(self, config: DataParallelConfig, *, num_gpus: int, world: World | None) -> None:
        check_alone(world, option=config.name)
        devices = plan_devices(config.devices, num_gpus=num_gpus, option=config.name)
        super().__init__(devices, num_micro_batches=len(devices), world=world)

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        return DataParallel(model, devices=[torch.device(device) for device in self.devices])


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, differentiably; itself where it is there already."""
    # The host would go on with numbers that have not arrived.
    return tensor.to(device, non_blocking=device.type != "cpu")


class DataParallel(nn.Module):
    """Trains `model`, which stays the first replica, on micro batches at once.

    Replicas on one device share its frozen weights and run one after the other, so that they draw
    from the device's random numbers in a fixed order; devices work at the same time.
    """

    def __init__(self, model: nn.Module, *, devices: Sequence[torch.device]) -> None:
        super().__init__()
        self.module = model
        self.devices = tuple(devices)
        trained = dict(model.named_parameters())
        self.trained = {name: each for name, each in trained.items() if each.requires_grad}
        copies: dict[torch.device, dict[int, Any]] = {}
        # In a tuple, since replicas are no parts: their parameters are the model's.
        self.replicas = (
            model,
            *(build_replica(model, device, copies) for device in self.devices[1:]),
        )
        self.places = find_places(model, self.trained)
        self.threads = ThreadPoolExecutor(len(set(devices)), thread_name_prefix="replica")

    def train(self, mode: bool = True) -> DataParallel:
        """Switch every replica."""
        super().train(mode)
        for replica in self.replicas[1:]:
            replica.train(mode)
        return self

    def forward(
        self,
        *,
        micro_batches: Sequence[Batch] | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        **batch: Any,
    ) -> dict[str, torch.Tensor]:
        """The loss of at most one micro batch a replica, on the first device.

        Args:
            micro_batches: batches as the model takes them; None: `batch` is the only one.
            num_items_in_batch: what each micro batch's summed loss is divided by, so that they
                add up.
        """
        micro_batches = [batch] if micro_batches is None else micro_batches
        assert len(micro_batches) <= len(self.replicas)
        self.send_trained(len(micro_batches))
        self.seed_devices(len(micro_batches))
        first = self.devices[0]
        calls: dict[torch.device, list[tuple[nn.Module, Batch]]] = {}
        places = zip(self.replicas, self.devices, strict=True)
        for (replica, device), micro_batch in zip(places, micro_batches, strict=False):
            inputs = {key: send(value, device) for key, value in micro_batch.items()}
            if num_items_in_batch is not None:
                inputs["num_items_in_batch"] = send(num_items_in_batch, device)
            calls.setdefault(device, []).append((replica, inputs))
        context = ThreadContext(first.type)
        running = [
            self.threads.submit(run_replicas, device, each, context)
            for device, each in calls.items()
        ]
        losses = [loss for each in running for loss in each.result()]
        return {"loss": torch.stack([send(loss, first) for loss in losses]).sum()}

    def send_trained(self, num_replicas: int) -> None:
        """Give replicas the first one's trained parameters, as one tensor a dtype and device."""
        groups: dict[torch.dtype, list[str]] = {}
        for name, parameter in self.trained.items():
            groups.setdefault(parameter.dtype, []).append(name)
        for names in groups.values() if num_replicas > 1 else ():
            parameters = [self.trained[name] for name in names]
            flat = torch.cat([each.flatten() for each in parameters])
            sizes = [each.numel() for each in parameters]
            for replica, device in zip(
                self.replicas[1:num_replicas], self.devices[1:num_replicas], strict=True
            ):
                parts = torch.split(send(flat, device), sizes)
                for name, parameter, part in zip(names, parameters, parts, strict=True):
                    value = part.view_as(parameter)
                    for module, attribute in self.places[name]:
                        setattr(replica.get_submodule(module), attribute, value)

    def seed_devices(self, num_replicas: int) -> None:
        """Other GPUs draw from seeds out of the first one's generator, which checkpoints keep: left
        alone, all of them would draw the same dropout, and another one after a resume."""
        first = self.devices[0]
        if first.type != "cuda" or not self.training:
            return
        generator = torch.cuda.default_generators[first.index]
        start = generator.initial_seed() + generator.get_offset()
        for place, device in enumerate(dict.fromkeys(self.devices[:num_replicas])):
            if device.type == "cuda" and device != first:
                seed = (start + (place << 40)) % 2**63
                torch.cuda.default_generators[device.index].manual_seed(seed)


class ThreadContext:
    """What torch keeps by thread: gradients and autocast, of the thread that made this."""

    def __init__(self, device_type: str) -> None:
        self.keeps_graph = torch.is_grad_enabled()
        self.autocast = torch.is_autocast_enabled(device_type)
        self.dtype = torch.get_autocast_dtype(device_type)

    def enter(self, device: torch.device) -> contextlib.ExitStack:
        """The same in this thread, computing on `device`."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.set_grad_enabled(self.keeps_graph))
        stack.enter_context(torch.autocast(device.type, dtype=self.dtype, enabled=self.autocast))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        return stack


def run_replicas(
    device: torch.device, calls: Sequence[tuple[nn.Module, Batch]], context: ThreadContext
) -> list[torch.Tensor]:
    """The losses of one device's replicas."""
    with context.enter(device):
        return [replica(**inputs)["loss"] for replica, inputs in calls]


def build_replica(
    model: nn.Module, device: torch.device, copies: dict[torch.device, dict[int, Any]]
) -> nn.Module:
    """A copy of `model` on `device` that owns no trained parameter.

    copies: by device, the frozen tensors there by the ids of the model's; filled on the way.
    """
    frozen = copies.setdefault(device, {})
    for each in (*model.parameters(), *model.buffers()):
        if id(each) not in frozen:
            # A trained parameter is a stand-in until the first is sent: no copy of its numbers.
            here = each if each.requires_grad else frozen_copy(each, device)
            frozen[id(each)] = here
    replica = copy.deepcopy(model, dict(frozen))
    for module in replica.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        for attribute, parameter in list(own):
            if parameter.requires_grad:
                # As a plain attribute it can be any tensor, such as one with a history.
                delattr(module, attribute)
                setattr(module, attribute, parameter.detach())
    return replica


def frozen_copy(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A frozen parameter or buffer on `device`; itself where it is there already."""
    if tensor.device == device:
        return tensor
    sent = send(tensor.detach(), device)
    return nn.Parameter(sent, requires_grad=False) if isinstance(tensor, nn.Parameter) else sent


def find_places(
    model: nn.Module, parameters: dict[str, nn.Parameter]
) -> dict[str, list[tuple[str, str]]]:
    """By parameter, every (module, attribute) that it is at: several where weights are tied."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    places: dict[str, list[tuple[str, str]]] = {name: [] for name in parameters}
    for full_name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            module, _, attribute = full_name.rpartition(".")
            places[names[id(parameter)]].append((module, attribute))
    return places
