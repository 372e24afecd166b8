"""A parallelism section -> the strategy that answers for it: the one place that knows them all."""

from __future__ import annotations

import torch

from glm_experiments.config import (
    DataParallelConfig,
    DistributedConfig,
    ModelParallelConfig,
    ParallelismConfig,
    ShardedConfig,
    SingleConfig,
)
from glm_experiments.parallelism.data_parallel import DataParallelStrategy
from glm_experiments.parallelism.distributed import DistributedStrategy
from glm_experiments.parallelism.model_parallel import ModelParallelStrategy
from glm_experiments.parallelism.sharded import ShardedStrategy
from glm_experiments.parallelism.single import SingleStrategy
from glm_experiments.parallelism.strategy import Strategy
from glm_experiments.parallelism.visible_devices import plan_device
from glm_experiments.processes.world import World


def choose_strategy(config: ParallelismConfig, *, world: World | None) -> Strategy:
    """How a run computes on the devices that this process sees.

    Raises:
        RuntimeError: for a device that does not exist, or none where some are needed.
        ValueError: where one process is asked for among several.
    """
    num_gpus = torch.cuda.device_count()
    strategy: Strategy
    match config:
        case SingleConfig():
            strategy = SingleStrategy(config, num_gpus=num_gpus, world=world)
        case DataParallelConfig():
            strategy = DataParallelStrategy(config, num_gpus=num_gpus, world=world)
        case ModelParallelConfig():
            strategy = ModelParallelStrategy(config, num_gpus=num_gpus, world=world)
        case ShardedConfig():
            strategy = ShardedStrategy(config, num_gpus=num_gpus, world=world)
        case DistributedConfig():
            strategy = DistributedStrategy(config, num_gpus=num_gpus, world=world)
        case _:
            raise AssertionError(f"parallelism={config.name} has no strategy")
    if isinstance(config, DistributedConfig) and strategy.num_processes == 1:
        return Strategy(strategy.devices, world=world)  # has nobody to share with
    return strategy


def choose_for_answers(config: ParallelismConfig) -> Strategy:
    """How a trained run answers: layers that are split stay so, and of several replicas or
    processes one does as well."""
    if isinstance(config, SingleConfig | ModelParallelConfig):
        return choose_strategy(config, world=None)
    return Strategy([plan_device(None, num_gpus=torch.cuda.device_count())])
