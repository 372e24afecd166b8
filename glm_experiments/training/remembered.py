"""What a checkpoint remembers beside the library's files, so that a run that goes on is the one
that was stopped: the loss since it was last logged, and the random state of every device."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers.trainer import TRAINER_STATE_NAME

from glm_experiments.processes.meeting import gather, num_processes, rank
from glm_experiments.record.writing import write_json

LOSS = "unlogged_loss.json"
DEVICES = "device_random_states.pt"


class UnloggedLoss:
    """The loss of the steps since it was last logged, summed where it is computed: no sync a step.

    sum: of this process. logged_step: the last step that was logged.
    """

    def __init__(self) -> None:
        self.sum = torch.tensor(0.0)
        self.logged_step = 0

    def add(self, loss: torch.Tensor) -> None:
        """Take in the loss of a pass."""
        self.sum = self.sum.to(loss.device) + loss

    def clear(self, step: int) -> None:
        """All up to `step` is logged."""
        self.sum, self.logged_step = torch.zeros_like(self.sum), step

    def describe(self) -> dict[str, object]:
        """As a checkpoint keeps it; all processes must ask."""
        return {"logged_step": self.logged_step, "sums": gather(self.sum.item())}

    def read(self, checkpoint: Path) -> None:
        """Go on from a checkpoint; one of an older version lost what it had not logged."""
        file = checkpoint / LOSS
        if not file.is_file():
            state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            self.clear(state["global_step"])
            return
        kept = json.loads(file.read_text(encoding="utf-8"))
        sums = kept["sums"]
        # The processes' mean is logged: as many others are given the same.
        mine = sums[rank()] if len(sums) == num_processes() else sum(sums) / len(sums)
        self.sum, self.logged_step = torch.tensor(mine), kept["logged_step"]


def write_loss(checkpoint: Path, described: dict[str, object]) -> None:
    """Keep what `UnloggedLoss.describe` said."""
    write_json(checkpoint / LOSS, described)


def save_device_states(folder: Path) -> None:
    """Keep the random state of every visible device; the library keeps the current one's."""
    if torch.cuda.is_available():
        torch.save(torch.cuda.get_rng_state_all(), folder / DEVICES)


def restore_device_states(folder: Path) -> None:
    """Put back what was kept, as far as there are such devices."""
    if torch.cuda.is_available() and (folder / DEVICES).is_file():
        states = torch.load(folder / DEVICES, map_location="cpu", weights_only=True)
        for device, state in enumerate(states[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
