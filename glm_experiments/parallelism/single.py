"""One process on one device, however many are visible."""

from __future__ import annotations

from glm_experiments.config import SingleConfig
from glm_experiments.parallelism.strategy import Strategy
from glm_experiments.parallelism.visible_devices import check_alone, plan_device
from glm_experiments.processes.world import World


class SingleStrategy(Strategy):
    """The answers of one process on one device, as they stand."""

    def __init__(self, config: SingleConfig, *, num_gpus: int, world: World | None) -> None:
        check_alone(world, option=config.name)
        super().__init__([plan_device(config.device, num_gpus=num_gpus)], world=world)
