"""glm-train whose jobs meet real faults: what happens to a job stands in its `name`."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = ("out_of_memory", "killed", "segfault", "stalled")


def happen(fault: str) -> None:
    """Let it happen to this process."""
    import torch

    match fault:
        case "out_of_memory":
            torch.empty(1 << 50)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "stalled":
            time.sleep(1000)


def main() -> None:
    """As glm-train; each fault happens once, in the second step of the job that it names."""
    from glm_experiments import train
    from glm_experiments.training import trainer

    step = trainer.GLMTrainer.training_step

    @functools.wraps(step)
    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        fault = os.environ.get("FAULT_OF_JOB") or name_of(self.args.output_dir)
        if fault in FAULTS and self.state.global_step == 1 and os.environ.get("FAULTS"):
            happen(fault)
        return step(self, *args, **kwargs)

    trainer.GLMTrainer.training_step = faulty  # type: ignore[method-assign]
    train.main()


def seeing_main() -> None:
    """As glm-train; each job notes what it sees of the machine in its folder."""
    import torch

    from glm_experiments import experiment, train

    run = experiment.run

    def noting(config: Any, output_dir: Path, **kwargs: Any) -> Any:
        seen = {
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "threads": torch.get_num_threads(),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "began": time.time(),
        }
        result = run(config, output_dir, **kwargs)
        seen["ended"] = time.time()
        (output_dir / "seen.json").write_text(json.dumps(seen))
        return result

    experiment.run = noting  # type: ignore[assignment]
    os.environ.pop("OMP_NUM_THREADS", None)  # as for most who type it
    train.main()


def name_of(folder: str) -> str:
    """The fault that a job's folder is named after."""
    return next((each for each in FAULTS if f"_{each}-" in folder), "")


if __name__ == "__main__":
    sys.exit(main())
