"""Maps a training section to transformers' TrainingArguments, the same in every parallelism."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments

from glm_experiments.config import TrainingConfig, batch_problems

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """How `training.batch_size` rows become one optimizer step.

    rows_per_pass: rows that one process feeds into one forward call.
    num_micro_batches: that such a call's rows make: one a replica, or those in flight.
    num_accumulated: forward calls of one process per optimizer step.
    """

    rows_per_pass: int
    num_micro_batches: int
    num_accumulated: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How a training computes.

    autocast: the arithmetic's dtype where the model's own weights train in a wider one.
    scales_loss: float16 gradients underflow without a scaled loss.
    """

    autocast: torch.dtype | None
    scales_loss: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """How one process trains: its section, and what follows for its device."""

    config: TrainingConfig
    seed: int
    device: torch.device
    batch: BatchPlan
    precision: Precision


def plan_batch(config: TrainingConfig, *, num_processes: int, num_micro_batches: int) -> BatchPlan:
    """Split `training.batch_size` over processes, micro batches and accumulated passes.

    Raises:
        ValueError: where it does not divide.
    """
    if problems := batch_problems(config, num_processes * num_micro_batches, 1):
        raise ValueError(problems[0])
    rows_per_pass = config.micro_batch_size * num_micro_batches
    return BatchPlan(
        rows_per_pass=rows_per_pass,
        num_micro_batches=num_micro_batches,
        num_accumulated=config.batch_size // (rows_per_pass * num_processes),
    )


def plan_precision(
    *, dtype: torch.dtype, trained_dtype: torch.dtype, trains_own_weights: bool, device: str
) -> Precision:
    """How arithmetic in `dtype` goes with trained parameters in `trained_dtype`.

    An adapter casts at its own borders; where the model's own weights train in a wider dtype,
    autocast does it.

    Raises:
        RuntimeError: for float16 on the CPU, whose gradients would need a loss scale.
    """
    if dtype is torch.float16 and device == "cpu":
        raise RuntimeError(
            "model.dtype=float16 can't be trained on the CPU; type model.dtype=float32 or bfloat16"
        )
    return Precision(
        autocast=dtype if trains_own_weights and dtype is not trained_dtype else None,
        scales_loss=dtype is torch.float16,
    )


def build_arguments(plan: TrainingPlan, *, output_dir: Path) -> TrainingArguments:
    """The library's arguments of one process.

    Raises:
        ValueError: for a `training.extra` that the library does not accept.
    """
    config, device = plan.config, plan.device
    # Evaluation, best checkpoint and rotation are the Trainer subclass's own.
    never = 2**62
    arguments: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": plan.seed,
        "data_seed": plan.seed,
        "per_device_train_batch_size": plan.batch.rows_per_pass,
        "gradient_accumulation_steps": plan.batch.num_accumulated,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        # A value below one is a share of all steps.
        "warmup_steps": config.warmup_share,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "max_steps": config.max_steps if config.max_steps is not None else -1,
        "num_train_epochs": config.num_train_epochs or 1,
        "logging_steps": config.logging_steps,
        "logging_first_step": True,
        "eval_strategy": "steps" if config.eval_steps else "no",
        "eval_steps": config.eval_steps,
        "save_strategy": "steps",
        "save_steps": config.save_steps or never,
        "metric_for_best_model": "loss" if config.eval_steps else None,
        "greater_is_better": False if config.eval_steps else None,
        "fp16": plan.precision.scales_loss,
        "use_cpu": device.type == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        # The default logs a dead run's loss as 0.0, and syncs the device in every pass.
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": device.type == "cuda",
        # Batches are sent without waiting for the passes before them.
        "accelerator_config": {"non_blocking": device.type == "cuda"},
        "ddp_find_unused_parameters": False,
        "average_tokens_across_devices": True,
    }
    with default_device(device):
        try:
            built = TrainingArguments(**{**arguments, **config.extra})
        except (TypeError, ValueError) as error:
            raise ValueError(f"training: {error}") from error
        # Read while the default device stands; several visible GPUs must not become DataParallel.
        built._setup_devices  # noqa: B018
        if built.world_size == 1:
            built.__dict__["_setup_devices"] = device
        built._n_gpu = 1
    return built


@contextmanager
def default_device(device: torch.device) -> Iterator[None]:
    """accelerate takes a device other than the first GPU only from its environment."""
    key = "ACCELERATE_TORCH_DEVICE"
    before = os.environ.get(key)
    if device.type == "cuda" and "LOCAL_RANK" not in os.environ:
        os.environ[key] = str(device)
        torch.cuda.set_device(device)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = before
