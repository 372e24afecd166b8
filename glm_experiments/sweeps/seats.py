"""Where jobs compute: so many at once as the devices take, each on its own, with its share of the
cores. Decides who may begin; knows nothing of processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from glm_experiments.sweeps.options import Options

CPU = "cpu"
"""The device of jobs where no other is, or that want none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Where one job computes. devices: as CUDA_VISIBLE_DEVICES names them; empty: on the CPU."""

    devices: tuple[str, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """What a failure there may be due to."""
        return self.devices or (CPU,)


class Seats:
    """The devices of a sweep and who sits there.

    visible: the machine's devices; what the options name counts instead.
    """

    def __init__(self, options: Options, *, visible: Sequence[str], num_cores: int) -> None:
        self.devices = tuple(visible if options.devices is None else map(str, options.devices))
        self.each_takes = options.jobs_per_device
        self.most = options.num_jobs or max(1, len(self.devices) * self.each_takes)
        self.num_threads = max(1, num_cores // self.most)
        self.stopped: set[str] = set()
        self._jobs: Counter[str] = Counter()
        self._taken: list[Seat] = []

    def is_shared(self) -> bool:
        """Whether several jobs run at once, so that each has a share of the cores only."""
        return self.most > 1

    def take(self, num_devices: int | None) -> Seat | None:
        """A seat for a job that needs so many devices (None: all); None: there is none by now."""
        seat = self._find(num_devices)
        if seat is not None:
            self._taken.append(seat)
            self._jobs.update(seat.places)
        return seat

    def leave(self, seat: Seat) -> None:
        """A job has ended."""
        self._taken.remove(seat)
        self._jobs.subtract(seat.places)

    def stop(self, place: str) -> None:
        """Let no further job begin there."""
        self.stopped.add(place)

    def could_take(self, num_devices: int | None) -> bool:
        """Whether a job finds a seat once all others have left."""
        wanted = self._wanted(num_devices)
        usable = [each for each in self.devices if each not in self.stopped]
        return len(usable) >= wanted and (wanted > 0 or CPU not in self.stopped)

    def _wanted(self, num_devices: int | None) -> int:
        return min(len(self.devices) if num_devices is None else num_devices, len(self.devices))

    def _find(self, num_devices: int | None) -> Seat | None:
        if len(self._taken) >= self.most or not self.could_take(num_devices):
            return None
        wanted = self._wanted(num_devices)
        if wanted == 0:
            return Seat(devices=())
        usable = [each for each in self.devices if each not in self.stopped]
        if wanted == 1:
            device = min(usable, key=lambda each: self._jobs[each])
            return Seat(devices=(device,)) if self._jobs[device] < self.each_takes else None
        free = [each for each in usable if self._jobs[each] == 0]
        return Seat(devices=tuple(free[:wanted])) if len(free) >= wanted else None


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
