"""Which devices and processes a config's words mean on this machine. Pure: asks nothing of torch.

Also refuses what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from glm_experiments.config import DistributedConfig
from glm_experiments.processes.world import World

CPU = "cpu"


def plan_device(device: str | None, *, num_gpus: int) -> str:
    """The one device of a run: the one that is named, or the first GPU, or the CPU.

    Raises:
        RuntimeError: for a device that does not exist.
    """
    device = device or ("cuda:0" if num_gpus else CPU)
    check_devices([device], num_gpus=num_gpus, key="parallelism.device")
    return device


def plan_devices(devices: Sequence[str] | None, *, num_gpus: int, option: str) -> list[str]:
    """The devices of one process: those that are named, or all that it sees.

    Raises:
        RuntimeError: for a device that does not exist, or where there is none.
    """
    planned = list(devices or [f"cuda:{index}" for index in range(num_gpus)])
    if not planned:
        raise RuntimeError(
            f"parallelism={option} found no GPU; type parallelism=single, or try it with "
            "parallelism.devices=[cpu,cpu]"
        )
    check_devices(planned, num_gpus=num_gpus, key="parallelism.devices")
    return planned


def plan_processes(config: DistributedConfig, *, num_gpus: int, world: World | None) -> int:
    """The number of processes: of the world that there is, or to be started, one a device.

    Raises:
        RuntimeError: for more than there are GPUs, or none at all.
        ValueError: for a world of another size.
    """
    if world is not None:
        if config.num_devices is not None and config.num_devices != world.size:
            raise ValueError(
                f"parallelism.num_devices={config.num_devices}, but {world.size} processes were "
                f"started; type parallelism.num_devices={world.size} or null"
            )
        return world.size
    size = config.num_devices or num_gpus
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
    return size


def plan_local_device(world: World | None, *, num_gpus: int) -> str:
    """The device of one process among several: its local GPU, or the CPU where there is none."""
    return f"cuda:{world.local_rank if world else 0}" if num_gpus else CPU


def check_alone(world: World | None, *, option: str) -> None:
    """Refuse several processes where one does all.

    Raises:
        ValueError: where torchrun started more.
    """
    if world is not None and world.size > 1:
        raise ValueError(
            f"parallelism={option} is one process, but {world.size} were started; "
            "type parallelism=distributed, or start without torchrun"
        )


def check_devices(devices: Sequence[str], *, num_gpus: int, key: str) -> None:
    """Refuse a device that is not there.

    Raises:
        RuntimeError: naming it and `key`, where it was typed.
    """
    for device in devices:
        index = device.partition(":")[2] or "0"
        if device.startswith("cuda") and int(index) >= num_gpus:
            seen = f"{num_gpus} GPUs are visible" if num_gpus else "no GPU is visible"
            typed = f"{key}=[cpu,cpu]" if key.endswith("s") else f"{key}=cpu"
            raise RuntimeError(f"{key} has {device}, but {seen}; type e.g. {typed}")
