"""Every name in a run's folder that this package chooses, and what lies there under it.

Not here: what is inside an adapter's folder (the tuners' format), and what libraries name
themselves (`trainer_state.json`, `optimizer.pt`, `train.log`).
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

SAVED_CONFIG = Path(".hydra", "config.yaml")
"""The config as Hydra composed it at the last attempt; there from the first moment of a run."""

TENSORBOARD = "tensorboard"
"""The folder of tensorboard's event files."""

LOCK = ".lock"
"""Held by the process that is at work in the folder."""

MARKER = "complete.json"
"""Declares a checkpoint whole: its files' sizes and checksums, and its settings."""


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


def rank_log_name(rank: int) -> str:
    """What a process other than the first said, kept where it failed."""
    return f"rank{rank}.log"
