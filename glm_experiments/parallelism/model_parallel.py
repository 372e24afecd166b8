"""One process, the layers of one model on several devices, several micro batches under way.

Where which layer goes is `layer_plan`'s; here a model is made to run as it is laid out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import PreTrainedModel

from glm_experiments.config import ModelParallelConfig
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.architectures.loss import sum_loss
from glm_experiments.models.attention import chosen_attention
from glm_experiments.models.device_hooks import mark_split, remove_hooks
from glm_experiments.models.mixing_in import mix_in
from glm_experiments.parallelism.layer_plan import (
    Stage,
    describe_stages,
    plan_stages,
    render_stages,
)
from glm_experiments.parallelism.layer_sizes import measure_free_memory, measure_sizes
from glm_experiments.parallelism.strategy import DevicePlan, MicroBatch, Strategy, Tune
from glm_experiments.parallelism.visible_devices import check_alone, plan_devices
from glm_experiments.processes.world import World

log = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]
FIRST, LAST = "first", "last"


class ModelParallelStrategy(Strategy):
    """One process; the devices are the stages of one model."""

    def __init__(self, config: ModelParallelConfig, *, num_gpus: int, world: World | None) -> None:
        check_alone(world, option=config.name)
        devices = plan_devices(config.devices, num_gpus=num_gpus, option=config.name)
        super().__init__(devices, num_micro_batches=config.num_micro_batches, world=world)

    def plan_devices(
        self,
        outline: Callable[[], PreTrainedModel],
        *,
        tune: Tune,
        micro_batch: MicroBatch,
    ) -> DevicePlan:
        """Split the layers so that each stage fits its device.

        Raises:
            ValueError: for more devices than layers, or attention that can't be split.
            RuntimeError: where no split fits.
        """
        model = outline()
        parts = name_parts(model)
        stages = plan_stages(
            measure_sizes(
                tune(model),
                dtype=micro_batch.dtype,
                num_rows=micro_batch.num_rows,
                length=micro_batch.length,
                activation_checkpointing=micro_batch.activation_checkpointing,
            ),
            devices=self.devices,
            free_bytes=measure_free_memory(self.devices),
            num_micro_batches=self.num_micro_batches,
        )
        log.info("\n%s", render_stages(stages, num_micro_batches=self.num_micro_batches))
        return DevicePlan(
            device_map=map_parts(parts, stages),
            described={"split": describe_stages(stages, num_micro_batches=self.num_micro_batches)},
        )

    def lay_out(self, model: PreTrainedModel, plan: DevicePlan) -> PreTrainedModel:
        return split_model(model, plan.device_map)

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        return ModelParallel(model)


class ModelParallel(nn.Module):
    """Trains a split model: all micro batches forward, then one backward pass of their sum."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, PreTrainedModel)
        self.module = model

    def forward(
        self,
        *,
        micro_batches: Sequence[Batch] | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **batch: Any,
    ) -> dict[str, torch.Tensor]:
        """The loss of all micro batches, on the first device.

        Args:
            micro_batches: with `label_positions`; None: `batch` is the only one.
            num_items_in_batch: what the summed loss is divided by; None: the number of labels.
        """
        micro_batches = [batch] if micro_batches is None else micro_batches
        # A head on the first device would wait there for the last one, and with it the next micro
        # batch: so all layers are queued first, then all heads.
        hidden = [self.run_layers(each) for each in micro_batches]
        losses = [self.sum_losses(*each) for each in zip(hidden, micro_batches, strict=True)]
        total = torch.stack(losses).sum().to(micro_batches[0]["input_ids"].device)
        if num_items_in_batch is None:
            num_items_in_batch = sum(len(each["label_positions"]) for each in micro_batches)
        return {"loss": total / num_items_in_batch}

    def run_layers(self, micro_batch: Batch) -> torch.Tensor:
        """Hidden states (batch, length, hidden) on the last device."""
        for_loss = ("labels", "label_positions")
        inputs = {key: value for key, value in micro_batch.items() if key not in for_loss}
        hidden = self.module.base_model(**inputs, use_cache=False).last_hidden_state
        assert isinstance(hidden, torch.Tensor)
        return hidden

    def sum_losses(self, hidden: torch.Tensor, micro_batch: Batch) -> torch.Tensor:
        """The summed loss of a micro batch's labelled positions, on the head's device."""
        positions = micro_batch["label_positions"]
        rows = hidden.flatten(0, 1).index_select(0, positions.to(hidden.device))
        targets = micro_batch["labels"].flatten().index_select(0, positions + 1)
        return sum_loss(self.module.lm_head, rows, targets)


class Copies:
    """What several layers of a device take: sent there once, and kept as long as the original."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, Any] = {}

    def send(self, value: Any, device: torch.device) -> Any:
        """`value`, with the tensors in its tuples, lists and dicts, on `device`, differentiably."""
        if isinstance(value, torch.Tensor):
            return value if value.device == device else self.find(value, device)
        if isinstance(value, tuple | list):
            return type(value)(self.send(each, device) for each in value)
        if type(value) is dict:
            return {key: self.send(each, device) for key, each in value.items()}
        return value

    def find(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The copy of `tensor`, unless it was written to or is wanted with a history since."""
        copies = self.by_device.setdefault(device, WeakTensorKeyDictionary())
        version = 0 if tensor.is_inference() else tensor._version
        state = version, torch.is_grad_enabled()
        kept: tuple[Any, torch.Tensor] | None = copies.get(tensor)
        if kept is None or kept[0] != state:
            kept = state, tensor.to(device, non_blocking=device.type != "cpu")
            copies[tensor] = kept
        return kept[1]


class OnDevice:
    """A module that takes its arguments to its device.

    In `__call__`, not in a hook: what activation checkpointing keeps is then on the device already,
    and is not sent again when the layer is computed a second time.
    """

    stage_device: torch.device
    copies: Copies

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = self.copies.send(args, self.stage_device)
        kwargs = self.copies.send(kwargs, self.stage_device)
        plain: Any = super()
        return plain.__call__(*args, **kwargs)


def split_model(model: PreTrainedModel, device_map: Mapping[str, str]) -> PreTrainedModel:
    """Let a model whose parts lie as `device_map` says run across its devices, in place."""
    remove_hooks(model)  # they send the same mask anew to every layer
    copies = Copies()
    for module in (*find_layers(model), model.get_submodule("lm_head")):
        mix_in(module, OnDevice)
        module.stage_device = next(module.parameters()).device
        module.copies = copies
    mark_split(model, {name: torch.device(device) for name, device in device_map.items()})
    return model


def name_parts(model: PreTrainedModel) -> dict[str, int | str]:
    """By module name: its layer, or `first` or `last` for what comes before and after all layers.

    model: not yet tuned; what a tuner adds follows its layer by itself.

    Raises:
        ValueError: for flex attention, whose masks can't follow from device to device.
    """
    if chosen_attention(model.config).endswith("flex_attention"):
        raise ValueError(
            "parallelism=model_parallel does not work with model.attn_implementation="
            "flex_attention; type model.attn_implementation=sdpa"
        )
    prefix, base = model.base_model_prefix, model.base_model
    layers = find_layers(model)
    embedding = model.get_input_embeddings()
    parts: dict[str, int | str] = {}
    for name, child in base.named_children():
        if child is layers:
            parts |= {f"{prefix}.{name}.{index}": index for index in range(len(layers))}
        else:
            has_weights = any(True for _ in child.parameters())
            parts[f"{prefix}.{name}"] = LAST if has_weights and child is not embedding else FIRST
    head = model.get_submodule("lm_head")
    is_tied = head.weight is embedding.weight
    parts["lm_head"] = FIRST if is_tied else LAST
    return parts


def map_parts(parts: Mapping[str, int | str], stages: Sequence[Stage]) -> dict[str, str]:
    """By module name, the device that its stage is on."""
    by_layer = {
        layer: stage.device for stage in stages for layer in range(stage.first, stage.last + 1)
    }
    ends = {FIRST: stages[0].device, LAST: stages[-1].device}
    return {
        name: by_layer[place] if isinstance(place, int) else ends[place]
        for name, place in parts.items()
    }
