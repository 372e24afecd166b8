"""DistributedDataParallel: a whole model in every process, gradients averaged once a step."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from glm_experiments.config import DistributedConfig
from glm_experiments.parallelism.strategy import Strategy
from glm_experiments.parallelism.together import (
    Answer,
    MeasureLoss,
    answer_together,
    measure_together,
)
from glm_experiments.parallelism.visible_devices import plan_local_device, plan_processes
from glm_experiments.processes.world import World


class DistributedStrategy(Strategy):
    """One process a device, each with its own samples."""

    def __init__(self, config: DistributedConfig, *, num_gpus: int, world: World | None) -> None:
        super().__init__(
            [plan_local_device(world, num_gpus=num_gpus)],
            num_processes=plan_processes(config, num_gpus=num_gpus, world=world),
            world=world,
        )

    def share_answers(self, answer: Answer) -> Answer:
        return answer_together(answer)

    def share_measuring(self, measure: MeasureLoss) -> MeasureLoss:
        return measure_together(measure)

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        return replicate(model, device=self.device)


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
