"""Decides which devices a run uses. Pure: asks nothing of torch, so a plan costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config import (
    DataParallelConfig,
    DistributedConfig,
    ModelParallelConfig,
    ParallelismConfig,
    SingleConfig,
)

CPU = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among the processes of a run."""

    rank: int
    size: int
    local_rank: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a run computes, seen from one process.

    devices: of this process: one, or those of its replicas or stages, in order, repeats allowed.
    num_processes: all that work on different samples at once.
    num_chunks: parts that each process splits its forward call into.
    """

    devices: tuple[str, ...]
    num_processes: int = 1
    num_chunks: int = 1

    @property
    def device(self) -> str:
        """Where batches arrive and the loss is added up."""
        return self.devices[0]


def plan_placement(
    config: ParallelismConfig, *, num_gpus: int, world: World | None = None
) -> Placement:
    """Place a run on the visible devices.

    Args:
        num_gpus: that this process sees.
        world: of a process among several (started by us, or by torchrun); None: the only one.

    Raises:
        RuntimeError: for a device that does not exist, or none where some are needed.
        ValueError: where one process is asked for among several.
    """
    if isinstance(config, DistributedConfig):
        return place_processes(config, num_gpus=num_gpus, world=world)
    if world is not None and world.size > 1:
        raise ValueError(
            f"parallelism={config.name} is one process, but {world.size} were started; "
            "type parallelism=distributed, or start without torchrun"
        )
    if isinstance(config, SingleConfig):
        device = config.device or ("cuda:0" if num_gpus else CPU)
        check_devices([device], num_gpus=num_gpus, key="parallelism.device")
        return Placement(devices=(device,))
    assert isinstance(config, DataParallelConfig | ModelParallelConfig)
    devices = config.devices or [f"cuda:{index}" for index in range(num_gpus)]
    if not devices:
        raise RuntimeError(
            f"parallelism={config.name} found no GPU; type parallelism=single, or try it with "
            "parallelism.devices=[cpu,cpu]"
        )
    check_devices(devices, num_gpus=num_gpus, key="parallelism.devices")
    num_chunks = len(devices)
    if isinstance(config, ModelParallelConfig):
        num_chunks = config.num_micro_batches
    return Placement(devices=tuple(devices), num_chunks=num_chunks)


def place_processes(config: DistributedConfig, *, num_gpus: int, world: World | None) -> Placement:
    """One device a process: its local GPU, or the CPU where there is no GPU."""
    if world is not None:
        size, local_rank = world.size, world.local_rank
        if config.num_devices is not None and config.num_devices != size:
            raise ValueError(
                f"parallelism.num_devices={config.num_devices}, but {size} processes were "
                f"started; type parallelism.num_devices={size} or null"
            )
    else:
        size, local_rank = config.num_devices or num_gpus, 0
        if size == 0:
            raise RuntimeError(
                f"parallelism={config.name} found no GPU; type parallelism=single, or try it on "
                "the CPU with parallelism.num_devices=2"
            )
        if num_gpus and size > num_gpus:
            raise RuntimeError(
                f"parallelism.num_devices={size}, but {num_gpus} GPUs are visible; "
                f"type parallelism.num_devices={num_gpus}"
            )
    return Placement(
        devices=(f"cuda:{local_rank}" if num_gpus else CPU,),
        num_processes=size,
    )


def check_devices(devices: list[str], *, num_gpus: int, key: str) -> None:
    """Refuse a device that is not there."""
    for device in devices:
        index = device.partition(":")[2] or "0"
        if device.startswith("cuda") and int(index) >= num_gpus:
            seen = f"{num_gpus} GPUs are visible" if num_gpus else "no GPU is visible"
            typed = f"{key}=[cpu,cpu]" if key.endswith("s") else f"{key}=cpu"
            raise RuntimeError(f"{key} has {device}, but {seen}; type e.g. {typed}")


def read_world(environment: dict[str, str]) -> World | None:
    """The world that torchrun or our own launcher describes in the environment."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    return World(
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", environment["RANK"])),
    )
