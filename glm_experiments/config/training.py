"""How long, how fast, how often saved; what may be handed on to transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from glm_experiments.config.library_arguments import extra_problems
from glm_experiments.config.rules import at_most, check, positive, within


class LrScheduler(StrEnum):
    """Names of transformers' SchedulerType."""

    linear = "linear"
    cosine = "cosine"
    cosine_with_restarts = "cosine_with_restarts"
    polynomial = "polynomial"
    constant = "constant"
    constant_with_warmup = "constant_with_warmup"
    inverse_sqrt = "inverse_sqrt"
    # With arguments of their own, in training.extra.lr_scheduler_kwargs.
    cosine_with_min_lr = "cosine_with_min_lr"
    warmup_stable_decay = "warmup_stable_decay"


class Keep(StrEnum):
    """Which checkpoints stay once a run is finished."""

    all = "all"
    best = "best"
    none = "none"


MOST_SAMPLES = 1_000_000
"""In an optimizer step."""


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How long, how fast, how often saved."""

    learning_rate: float
    lr_scheduler_type: LrScheduler
    warmup_share: float
    """Share of all steps over which the learning rate rises."""
    weight_decay: float
    max_grad_norm: float
    """Gradients are scaled down to this norm; 0: never."""
    max_steps: int | None
    """Optimizer steps, whatever `num_train_epochs` says; null: as many as the epochs have."""
    num_train_epochs: float | None
    """Times that the training rows are gone through, where `max_steps` is null."""
    batch_size: int
    """Samples (packed rows) per optimizer step over all devices."""
    micro_batch_size: int
    """Samples (packed rows) per device and forward pass."""
    activation_checkpointing: bool
    """Recompute activations in the backward pass instead of keeping them."""
    logging_steps: int
    eval_steps: int | None
    """Steps between evaluations of the validation loss; null: none while training."""
    save_steps: int | None
    """Steps between checkpoints; null: only where the run stops."""
    save_total_limit: int | None
    """Checkpoints kept; null: all."""
    keep: Keep | None
    """Of those, once the run is finished: all, the best (without evaluations the last), none; what
    was trained stays in any case. null: all, in a sweep the best."""
    early_stopping_patience: int | None
    """Evaluations without a lower validation loss before the run ends; null: never."""
    resume: str
    """auto: the last complete checkpoint in the run's folder; never; or a checkpoint's folder."""
    extra: dict[str, Any]
    """Further arguments of transformers.TrainingArguments, of those in `PASSED_ON`."""

    def problems(self) -> list[str]:
        section = "training"
        problems = positive(
            section,
            {
                "batch_size": self.batch_size,
                "micro_batch_size": self.micro_batch_size,
                "max_steps": self.max_steps,
                "num_train_epochs": self.num_train_epochs,
                "logging_steps": self.logging_steps,
                "eval_steps": self.eval_steps,
                "save_steps": self.save_steps,
                "save_total_limit": self.save_total_limit,
                "early_stopping_patience": self.early_stopping_patience,
            },
        )
        check(
            problems,
            0 < self.learning_rate < math.inf,
            f"training.learning_rate must be above 0 and finite, got {self.learning_rate}; "
            "type e.g. training.learning_rate=1e-4",
        )
        problems += at_most(
            section,
            {"batch_size": self.batch_size, "micro_batch_size": self.micro_batch_size},
            MOST_SAMPLES,
            because="a step of more would be filled up with rows that train nothing",
        )
        problems += within(
            section,
            {"weight_decay": self.weight_decay, "max_grad_norm": self.max_grad_norm},
            0,
            math.inf,
        )
        check(
            problems,
            0 <= self.warmup_share < 1,
            f"training.warmup_share is {self.warmup_share}, so the learning rate would never "
            "arrive; type a share of all steps below 1, e.g. training.warmup_share=0.05",
        )
        check(
            problems,
            self.max_steps is not None or self.num_train_epochs is not None,
            "training.max_steps and training.num_train_epochs are both null, so the training would "
            "have no end; type e.g. training.num_train_epochs=1",
        )
        check(
            problems,
            self.early_stopping_patience is None or self.eval_steps is not None,
            "training.early_stopping_patience needs evaluations while training; "
            "type e.g. training.eval_steps=50",
        )
        problems += extra_problems(self.extra, fields=type(self).__dataclass_fields__)
        return problems


def batch_problems(training: TrainingConfig, num_replicas: int, in_flight: int) -> list[str]:
    """What keeps `batch_size` from being a whole number of accumulation steps."""
    step = training.micro_batch_size * num_replicas * in_flight
    if step <= 0 or training.batch_size % step == 0:
        return []  # the fields' own rules report what is not positive
    factors = f"training.micro_batch_size={training.micro_batch_size}"
    if num_replicas > 1:
        factors += f" x {num_replicas} devices"
    if in_flight > 1:
        factors += f" x parallelism.num_micro_batches={in_flight}"
    nearest = max(step, training.batch_size // step * step)
    return [
        f"training.batch_size={training.batch_size} is not a multiple of {factors}; "
        f"type e.g. training.batch_size={nearest}"
    ]
