"""What a run asks of its parallelism, and the answers of one process on one device.

A class an option overrides what it does otherwise; `strategies` knows them all. Knows models, and
no tuner, data or Trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.parallelism.together import Answer, MeasureLoss
from glm_experiments.processes import meeting
from glm_experiments.processes.worker import Work
from glm_experiments.processes.workers import run_workers
from glm_experiments.processes.world import World
from glm_experiments.record.run import Run

Tune = Callable[[PreTrainedModel], PreTrainedModel]
"""What tuning does to a model, in place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """What one forward pass of a training works on: `num_rows` rows of at most `length` tokens.

    dtype: of the arithmetic.
    """

    num_rows: int
    length: int
    dtype: torch.dtype
    activation_checkpointing: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePlan:
    """Where a model's parts load: a device by module name. `described`: for the run's record."""

    device_map: dict[str, str]
    described: dict[str, Any] = field(default_factory=dict)


class Strategy:
    """How a run computes, seen from one of its processes.

    devices: of this process: one, or those of its replicas or stages, in order, repeats allowed.
    num_processes: all that work on different samples at once.
    num_micro_batches: that one call of the module that trains takes.
    world: of a process among several (started by us, or by torchrun); None: the only one.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        num_processes: int = 1,
        num_micro_batches: int = 1,
        world: World | None = None,
    ) -> None:
        self.devices = tuple(devices)
        self.num_processes = num_processes
        self.num_micro_batches = num_micro_batches
        self.world = world

    @property
    def device(self) -> str:
        """Where batches arrive and the loss is added up."""
        return self.devices[0]

    # Who takes part

    def carry_out(self, work: Work, record: Run, *, folder: Path) -> None:
        """Do `work` in every process of the run; `record` takes over what the first one noted.

        Raises:
            Exception: whatever ended a process first.
        """
        if self.world is not None:  # torchrun started the others, which wait for what to do
            meeting.hand_out(work)
            work(record)
        elif self.num_processes > 1:
            run_workers(work, record, num_processes=self.num_processes, folder=folder)
        else:
            work(record)

    def join(self) -> Self:
        """Meet the other processes of the run, where there are any."""
        if self.world is not None:
            meeting.join_world(self.world, device=self.device)
        return self

    # Where the model is

    def plan_devices(
        self,
        outline: Callable[[], PreTrainedModel],
        *,
        tune: Tune,
        micro_batch: MicroBatch,
    ) -> DevicePlan:
        """Decide where the parts of a model load, before its weights are read.

        Args:
            outline: makes the untuned model on `meta`.
            tune: what tuning will do to it.

        Raises:
            ValueError: where the tuner, or the split, doesn't fit the model: that must not cost the
                minutes of loading.
            RuntimeError: where the model doesn't fit the devices.
        """
        tune(outline())
        return DevicePlan(device_map={"": self.device})

    def lay_out(self, model: PreTrainedModel, plan: DevicePlan) -> PreTrainedModel:
        """Let a model that was loaded by `plan` compute where it lies, in place."""
        return model

    # What is measured, and by whom

    def measurable(self, model: PreTrainedModel) -> PreTrainedModel:
        """What answers for `model` before it is tuned; `model` itself stays as it is."""
        return model

    def share_answers(self, answer: Answer) -> Answer:
        """`answer` as all processes call it together."""
        return answer

    def share_measuring(self, measure: MeasureLoss) -> MeasureLoss:
        """`measure` as all processes call it together."""
        return measure

    def settle(
        self, model: PreTrainedModel, settle: Callable[[PreTrainedModel], PreTrainedModel]
    ) -> None:
        """Let a model that has been trained be what its saved state comes to, in place.

        settle: does that to a model whose weights are whole.
        """
        settle(model)

    # What trains

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        """The module that the training loop calls, around a tuned `model`.

        trains_own_weights: the trained parameters are the model's own, and as large.
        """
        return model
