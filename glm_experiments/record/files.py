"""Every name in a run's folder that this package chooses, and what lies there under it.

Not here: what else is inside an adapter's folder (the tuners' format), and what libraries name
themselves (`trainer_state.json`, `optimizer.pt`).
"""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = "results.json"
"""The run's record: how it ended, with which config, what came out. Written at the end."""

METRICS = "metrics.jsonl"
"""The figures of every logged step, a line each."""

ADAPTER = "adapter"
"""The folder of what was trained: a run's at the end, a checkpoint's at its step."""

ADAPTER_DESCRIPTION = "adapter.json"
"""In an adapter's folder, an exported one, too: of which tuner, base and prompt format it is."""

EXPORT_DESCRIPTION = "prompt_format.json"
"""In an exported model's folder: how it is asked, and from which base it was made."""

TOKENIZER = "tokenizer"
"""The folder of a tokenizer that was built from the run's own texts."""

PREDICTIONS = "predictions.jsonl"
"""Questions, references, and the answers before and after tuning."""

REJECTED = "rejected.jsonl"
"""Rows that could not be used."""

EVALUATIONS = "evaluations"
"""The folder of all later evaluations, a folder each."""

EVALUATION = "evaluation.json"
"""An evaluation's record, as a run's."""

TRAINED = "config.json"
"""The config of what trains here, or did: written once nothing speaks against it any more."""

SAVED_CONFIG = Path(".hydra", "config.yaml")
"""The config as composed at the last attempt that was let in; there from the first moment on."""

TENSORBOARD = "tensorboard"
"""The folder of tensorboard's event files."""

WANDB = "wandb"
"""The folder of wandb's own files."""

TRACKED_RUN_ID = "tracked_run_id"
"""By which a tracker knows the run."""

LOCK = ".lock"
"""Held by the process that is at work in the folder."""

MARKER = "complete.json"
"""Declares a checkpoint or a run's adapter whole: its files' sizes and checksums, its settings."""

FORMER = "former"
"""The folder of what other trainings left here, a numbered folder each."""

LOG = "train.log"
"""The log of all attempts, as Hydra names it."""

PROGRESS = ".progress"
"""How far a sweep's job is, while it runs."""

SWEEP = "sweep.json"
"""A sweep's record, in its folder: its jobs, and the best of them."""

SWEEP_TABLE = "sweep.csv"
"""The same as a table."""


def checkpoint_name(step: int) -> str:
    """The folder of the checkpoint after `step`, as transformers names it."""
    return f"checkpoint-{step}"


def numbered_checkpoints(run_dir: Path) -> dict[int, Path]:
    """All checkpoint folders of a run by step, ascending, complete or not."""
    found = {
        int(match[1]): path
        for path in run_dir.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    }
    return dict(sorted(found.items()))


def rank_log_name(rank: int | str) -> str:
    """What a process other than the first said, kept where it failed."""
    return f"rank{rank}.log"


def list_left(run_dir: Path) -> list[Path]:
    """What a training has left in its folder, checkpoints first; its log alone is nothing."""
    names = (
        *(ADAPTER, METRICS, PREDICTIONS, REJECTED, TOKENIZER, EVALUATIONS),
        *(TENSORBOARD, WANDB, TRACKED_RUN_ID, RESULTS, TRAINED, SAVED_CONFIG.parts[0]),
    )
    found = [
        *reversed(numbered_checkpoints(run_dir).values()),
        *(path for name in names if (path := run_dir / name).exists()),
        *run_dir.glob(rank_log_name("*")),
    ]
    return [*found, *run_dir.glob(LOG)] if found else []


def has_trained(run_dir: Path) -> bool:
    """Whether a training has left weights in its folder, whole or not."""
    return bool(numbered_checkpoints(run_dir)) or (run_dir / ADAPTER).is_dir()
