"""Runs glm-train and the other commands inside the test's process, as a user would type them."""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

TINY = (
    "experiment=identity",
    "data.num_train_rows=32",
    "data.num_validation_rows=4",
    "training.max_steps=2",
    "training.batch_size=4",
    "training.micro_batch_size=4",
    "training.logging_steps=1",
    "evaluation.max_new_tokens=4",
    "tracking=disabled",
)
UNMEASURED = ("evaluation.before=false", "evaluation.after=false")


@functools.cache
def freeze_libraries() -> None:
    """Once a process: every run collects garbage, which needs not look through the libraries."""
    gc.collect()
    gc.freeze()


def last_of_each(*overrides: str) -> list[str]:
    """Overrides without those that a later one replaces: a command line may give a key once."""
    return list({each.partition("=")[0]: each for each in overrides}.values())


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Typed:
    """Types commands; `folder` is the last run's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, main: Any, *arguments: str | Path) -> Done:
        """Call a console entry point with these arguments."""
        GlobalHydra.instance().clear()
        if "peft" in sys.modules:
            freeze_libraries()
        self.monkeypatch.setattr(sys, "argv", ["glm", *map(str, arguments)])
        if self.capsys is not None:
            self.capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        if self.capsys is None:
            return Done(code, "", "")
        return Done(code, *self.capsys.readouterr())

    def train(self, folder: Path, *overrides: str, tiny: tuple[str, ...] = TINY) -> Done:
        """Run glm-train on the tiny experiment into `folder`."""
        from glm_experiments import train

        return self(train.main, *last_of_each(*tiny, *overrides), f"hydra.run.dir={folder}")


def read_record(folder: Path) -> dict[str, Any]:
    """The run's `results.json`."""
    record: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return record


def read_sweep(folder: Path) -> list[dict[str, Any]]:
    """The jobs that a sweep's `sweep.json` lists; beside what stands there, each one's record."""
    jobs = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return [{**job, "record": read_record(Path(job["folder"]))} for job in jobs]


def read_losses(folder: Path, key: str = "train/loss") -> dict[int, float]:
    """Loss by step; of two lines of a step the later counts."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["step"]: line[key] for line in map(json.loads, lines) if key in line}


class Signal:
    """A context that sends this process a signal once the run has logged some steps."""

    def __init__(self, signum: int, *, folder: Path, num_steps: int) -> None:
        self.signum = signum
        self.file = folder / "metrics.jsonl"
        self.num_steps = num_steps
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.is_over.is_set():
            if self.file.is_file() and self.file.read_bytes().count(b"\n") >= self.num_steps:
                os.kill(os.getpid(), self.signum)
                return
            time.sleep(0.005)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()
