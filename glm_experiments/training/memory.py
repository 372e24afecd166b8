"""Peak memory of the devices that a run used, of each of its stages by itself. Knows no stage."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from glm_experiments.processes.meeting import gather

Peaks = dict[str, int]  # bytes by device
PROCESS = Path("/proc/self")


class PeakMemory:
    """The peaks of this process's devices by stage: of one inside another, each counts its own."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._peaks: dict[str, Peaks] = {}
        self._stages: list[str] = []

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """What is needed inside belongs to `stage`; wraps functions, too."""
        self._change()
        self._stages.append(stage)
        try:
            yield
        finally:
            self._change()
            self._stages.pop()

    def _change(self) -> None:
        """Count what was needed since the last change for the innermost stage, and begin anew."""
        if self._stages:
            peaks = self._peaks.setdefault(self._stages[-1], {})
            for device, peak in measure_peak_memory(self._devices).items():
                peaks[device] = max(peak, peaks.get(device, 0))
        reset_peak_memory(self._devices)

    def gather(self) -> dict[str, Peaks]:
        """The peaks of all processes by stage and device; where two have one name, with the rank
        of the process."""
        gathered: dict[str, Peaks] = {}
        for rank, stages in enumerate(gather(self._peaks)):
            for stage, peaks in stages.items():
                named = gathered.setdefault(stage, {})
                for device, peak in peaks.items():
                    named[f"{device} of process {rank}" if device in named else device] = peak
        return gathered


def reset_peak_memory(devices: Sequence[str]) -> None:
    """Let the peaks begin at what is in use; of the CPU where the system can (Linux)."""
    for device in set(devices):
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):  # another system, or a container that keeps it from us
                (PROCESS / "clear_refs").write_text("5")


def measure_peak_memory(devices: Sequence[str]) -> Peaks:
    """Bytes by device since the last reset: allocated by torch on a GPU, of the whole process on
    the CPU."""
    peaks = {}
    for device in dict.fromkeys(devices):
        if device.startswith("cuda"):
            peaks[device] = torch.cuda.max_memory_allocated(device)
        else:
            # Linux counts KiB, macOS bytes.
            unit = 1 if sys.platform == "darwin" else 1024
            peaks[device] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peaks
