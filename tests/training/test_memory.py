"""What each stage of a run needed at most, by itself."""

import json

import numpy as np
import pytest

from glm_experiments.training.memory import PROCESS, PeakMemory

MIB = 2**20


def use(size: int) -> None:
    """Touch memory that goes back to the system at once, as large blocks do."""
    np.ones(size, dtype=np.uint8)


def test_a_stage_has_its_own_peak_and_one_inside_another_counts_apart() -> None:
    if not (PROCESS / "clear_refs").exists():
        pytest.skip("only Linux lets a process's peak begin anew")
    memory = PeakMemory(["cpu"])
    with memory.during("training"):
        use(50 * MIB)
        with memory.during("generation"):
            use(400 * MIB)
        use(50 * MIB)
    with memory.during("evaluation"):
        use(200 * MIB)
    peaks = {stage: peaks["cpu"] for stage, peaks in memory.gather().items()}
    assert peaks["generation"] - peaks["training"] > 300 * MIB, json.dumps(peaks)
    assert peaks["evaluation"] - peaks["training"] > 100 * MIB
    assert peaks["generation"] - peaks["evaluation"] > 150 * MIB
