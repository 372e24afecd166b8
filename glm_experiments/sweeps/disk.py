"""The checkpoints that jobs would keep, held against the free space before the first begins. Knows
of a job its config alone; what it trains is measured on `meta`, where no weight is read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glm_experiments.config import Dtype, Keep, Weights
from glm_experiments.record.errors import RunFailed
from glm_experiments.record.writing import encode_json

NUM_MOMENTS = 2
"""Tensors that the optimizer (Adam) keeps of each that trains."""

LENGTHS = ("max_steps", "save_steps", "save_total_limit")
USUAL_NUMBER = 2
"""Checkpoints of a run whose number isn't known before it has read its rows."""

MOST_MEASURED = 16
"""Of jobs that train different parameters; the others count as the largest of them."""


def measure_trained(config: Any) -> int | None:
    """Bytes of what a config trains; None: its model can't be outlined, as the job itself will say.

    For a process of its own: it imports torch.
    """
    from glm_experiments.models.preparation import outline_model, prepare_tokenizer
    from glm_experiments.tuners import apply_tuner

    model_config = config.model
    if model_config.weights is Weights.random:  # as large as the vocabulary of its rows
        return None
    if model_config.dtype is Dtype.auto:
        model_config = replace(model_config, dtype=Dtype.bfloat16)  # float16 is as large
    try:
        tokenizer = prepare_tokenizer(model_config, texts=(), folder=Path("nowhere"))
        model = apply_tuner(outline_model(model_config, tokenizer), config.tuner, seed=config.seed)
    except (ValueError, OSError, RuntimeError):
        return None
    return sum(each.nbytes for each in model.parameters() if each.requires_grad)


def group_alike(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The places of those nested configs that train the same parameters."""
    groups: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        parts = {key: config[key] for key in ("model", "tuner")}
        groups.setdefault(encode_json(parts), []).append(place)
    return groups


def plan_bytes(training: Mapping[str, Any], trained: int) -> tuple[int, int]:
    """Bytes that a job leaves, and that it takes at most while it runs.

    training: that section of its config. trained: bytes of what it trains.
    """
    checkpoint = trained * (1 + NUM_MOMENTS)
    steps, cadence, limit = (training[key] for key in LENGTHS)
    if cadence is None:
        num_saved = 1
    elif steps is None:  # as many as epochs have, which only the rows say
        num_saved = USUAL_NUMBER if limit is None else limit
    else:
        num_saved = -(-steps // cadence)
    num_kept = num_saved if limit is None else min(num_saved, limit)
    stay = {Keep.all: num_kept, Keep.none: 0}.get(training["keep"], 1)
    # A new one is whole before an old one goes.
    return trained + stay * checkpoint, trained + (num_kept + 1) * checkpoint


def check_space(
    folder: Path,
    configs: Sequence[Mapping[str, Any]],
    trained: Sequence[int | None],
    *,
    at_once: int,
) -> None:
    """See that the checkpoints of jobs find room.

    configs: nested. trained: bytes of what each trains. at_once: how many run.

    Raises:
        RunFailed: where they don't.
    """
    plans = [
        plan_bytes(config["training"], size)
        for config, size in zip(configs, trained, strict=True)
        if size is not None
    ]
    extra = sorted((most - left for left, most in plans), reverse=True)[:at_once]
    needed = sum(left for left, _ in plans) + sum(extra)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunFailed(
            f"the checkpoints of {len(plans)} jobs take {show_bytes(needed)}, and {folder} has "
            f"{show_bytes(free)}; free some, or type training.keep=none, a smaller "
            "training.save_total_limit, or hydra.sweep.dir=FOLDER on another disk"
        )


def show_bytes(number: int) -> str:
    """A size as people say it."""
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.1f} MiB"
