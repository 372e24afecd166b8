"""Where a run computes: one schema a way to use devices."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config.rules import check, positive


@dataclass(kw_only=True, slots=True)
class ParallelismConfig:
    """Where the run computes."""

    name: str

    def problems(self) -> list[str]:
        return []

    def num_replicas(self) -> int | None:
        """Devices that work on different samples at once; None: decided by what is visible."""
        return 1

    def num_in_flight(self) -> int:
        """Micro batches of a device that one optimizer step must hold at least."""
        return 1

    def num_gpus(self) -> int | None:
        """GPUs that must be visible, for the last that is named, where there are any; None: all."""
        return 1

    def num_processes(self) -> int:
        """Processes of a run on the CPU."""
        return 1


@dataclass(kw_only=True, slots=True)
class SingleConfig(ParallelismConfig):
    """One device, however many are visible."""

    device: str | None
    """cpu, cuda:0, ...; null: the first GPU, or the CPU where there is none."""

    def problems(self) -> list[str]:
        return [] if self.device is None else device_problems("parallelism.device", self.device)

    def num_gpus(self) -> int | None:
        return 1 if self.device is None else last_gpu([self.device])


@dataclass(kw_only=True, slots=True)
class DataParallelConfig(ParallelismConfig):
    """One process, one replica of the model a device, every micro batch split over them."""

    devices: list[str] | None
    """cpu, cuda:0, ...; repeats allowed; null: all visible GPUs."""

    def problems(self) -> list[str]:
        return devices_problems(self.devices)

    def num_replicas(self) -> int | None:
        return len(self.devices) if self.devices is not None else None

    def num_gpus(self) -> int | None:
        return None if self.devices is None else last_gpu(self.devices)


@dataclass(kw_only=True, slots=True)
class DistributedConfig(ParallelismConfig):
    """One process a device, gradients averaged (DistributedDataParallel)."""

    num_devices: int | None
    """null: all visible GPUs; under torchrun the world that it gives."""

    def problems(self) -> list[str]:
        return positive("parallelism", {"num_devices": self.num_devices})

    def num_replicas(self) -> int | None:
        return self.num_devices

    def num_gpus(self) -> int | None:
        return self.num_devices

    def num_processes(self) -> int:
        return self.num_devices or 1


@dataclass(kw_only=True, slots=True)
class ShardedConfig(DistributedConfig):
    """One process a device, the weights sharded over them (FSDP2)."""


@dataclass(kw_only=True, slots=True)
class ModelParallelConfig(ParallelismConfig):
    """One process, the layers split over devices, micro batches overlapping."""

    devices: list[str] | None
    """cpu, cuda:0, ...; repeats allowed; null: all visible GPUs."""
    num_micro_batches: int
    """Forward passes in flight before one backward pass."""

    def problems(self) -> list[str]:
        problems = devices_problems(self.devices)
        return problems + positive("parallelism", {"num_micro_batches": self.num_micro_batches})

    def num_in_flight(self) -> int:
        return self.num_micro_batches

    def num_gpus(self) -> int | None:
        return None if self.devices is None else last_gpu(self.devices)


def last_gpu(devices: list[str]) -> int:
    """How many GPUs there must be for the last of some devices; 0: all are the CPU."""
    indices = [int(device.partition(":")[2]) for device in devices if device.startswith("cuda:")]
    return max(indices, default=-1) + 1


def devices_problems(devices: list[str] | None) -> list[str]:
    """What is wrong with a list of device names."""
    if devices is None:
        return []
    problems: list[str] = []
    check(problems, bool(devices), "parallelism.devices is empty; type e.g. [cuda:0,cuda:1]")
    for device in devices:
        problems += device_problems("parallelism.devices", device)
    return problems


def device_problems(key: str, device: str) -> list[str]:
    """What is wrong with a device's name."""
    kind, colon, index = device.partition(":")
    if (device == "cpu") or (kind == "cuda" and colon and index.isdecimal()):
        return []
    return [f"{key} has {device!r}, which names no device; type cpu or e.g. cuda:0"]
