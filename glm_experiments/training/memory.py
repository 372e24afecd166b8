"""Peak memory of the devices that a run used."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

import torch

from glm_experiments.processes.meeting import gather


def reset_peak_memory(devices: Sequence[str]) -> None:
    """Forget what earlier runs of this process needed."""
    for device in set(devices):
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)


def gather_peak_memory(devices: Sequence[str]) -> dict[str, int]:
    """The peaks of all processes, by device; where two have one name, with the process's rank."""
    gathered: dict[str, int] = {}
    for rank, peaks in enumerate(gather(measure_peak_memory(devices))):
        for device, peak in peaks.items():
            gathered[f"{device} of process {rank}" if device in gathered else device] = peak
    return gathered


def measure_peak_memory(devices: Sequence[str]) -> dict[str, int]:
    """Bytes by device: allocated by torch on a GPU; of the whole process, ever, on the CPU."""
    peaks = {}
    for device in dict.fromkeys(devices):
        if device.startswith("cuda"):
            peaks[device] = torch.cuda.max_memory_allocated(device)
        else:
            # Linux counts KiB, macOS bytes.
            unit = 1 if sys.platform == "darwin" else 1024
            peaks[device] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peaks
