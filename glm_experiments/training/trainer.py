"""The transformers Trainer with what a comparison of runs needs: exact steps, whole checkpoints,
token counts without device syncs, and a state that belongs to the tuner."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from glm_experiments.processes.meeting import add_up, from_main
from glm_experiments.record.errors import Diverged
from glm_experiments.record.files import ADAPTER, checkpoint_name
from glm_experiments.record.markers import write_marker
from glm_experiments.training import checkpoints
from glm_experiments.training.arguments import Precision
from glm_experiments.training.remembered import (
    UnloggedLoss,
    restore_device_states,
    save_device_states,
    write_loss,
)
from glm_experiments.training.state import (
    Adapter,
    restore_optimizer_state,
    restore_state,
    trainable_state,
    whole_optimizer_state,
)
from glm_experiments.training.steps import (
    Batch,
    EpochOrder,
    MicroBatchCollator,
    WholeSteps,
    count_labels,
)

MeasureLoss = Callable[[nn.Module], float]


class GLMTrainer(Trainer):
    """Trains what requires a gradient; everything else about the model is the caller's.

    module: what is called in the model's place (replicas, micro batches in flight, ...), or itself.
    measure_loss: the validation loss of the model.
    settings: what a checkpoint must agree with to be continued.
    """

    # The library's are unions with what it has before and after training.
    model: Any
    lr_scheduler: Any

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        rows: WholeSteps,
        collate: MicroBatchCollator,
        precision: Precision,
        adapter: Adapter,
        measure_loss: MeasureLoss,
        settings: Mapping[str, Any],
        num_checkpoints_kept: int | None,
        module: nn.Module,
    ) -> None:
        self.precision = precision
        self.adapter = adapter
        self.measure_loss = measure_loss
        self.settings = settings
        self.num_checkpoints_kept = num_checkpoints_kept
        self.module = module
        self.order = EpochOrder(rows, seed=args.seed)
        self.num_tokens = 0  # real ones, of the whole training: a resume goes on counting
        self.last_pass_loss: torch.Tensor | None = None
        self.unlogged_loss = UnloggedLoss()
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows,
            eval_dataset=rows,
            data_collator=collate,
            callbacks=[FollowEpoch(self.order)],
        )
        # Every model here takes num_items_in_batch and divides its summed loss by it.
        self.model_accepts_loss_kwargs = True
        # Autocast stands in compute_loss_context_manager, for wrapped models too.
        self.accelerator.autocast_handler = AutocastKwargs(enabled=False)

    # Steps

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self.order

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """The micro batches of one optimizer step, and the labels in all processes' together."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self.num_tokens += add_up(sum(batch.pop("num_tokens") for batch in batches))
        num_labels = torch.stack([count_labels(batch).to(device) for batch in batches]).sum()
        if self.args.world_size > 1:
            num_labels = self.accelerator.gather(num_labels).sum()
        return batches, num_labels

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        if self.precision.autocast is not None:
            stack.enter_context(
                torch.autocast(self.args.device.type, dtype=self.precision.autocast)
            )
        return stack

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.last_pass_loss = loss
        self.unlogged_loss.add(loss)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # the library's own forgets at a stop what it had not logged
            step = self.state.global_step
            total = self.accelerator.gather(self.unlogged_loss.sum).mean().item()
            logs["loss"] = total / (step - self.unlogged_loss.logged_step)
            self.unlogged_loss.clear(step)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Batch) -> int:
        return 0  # an estimate that counts padding and ignores what is frozen

    # Devices: the model comes on its own

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        pass

    def _wrap_model(
        self, model: nn.Module, training: bool = True, dataloader: Any = None
    ) -> nn.Module:
        if training and model is self.model and self.module is not model:
            return self.module
        return super()._wrap_model(model, training=training, dataloader=dataloader)

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    # Validation loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The validation loss, over labelled tokens."""
        loss = self.measure_loss(self.model)
        metrics = {"eval_loss": from_main(lambda: loss)}  # all must agree which step was best
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train()
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics=metrics, trial=trial)
        if is_best:
            self.control.should_save = True
        return is_best

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what was trained, and nothing else, into a checkpoint."""
        state = trainable_state(self.model)
        if self.args.should_save:
            assert output_dir is not None
            self.adapter.save(Path(output_dir) / ADAPTER, state)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.last_pass_loss is not None and not math.isfinite(self.last_pass_loss.item()):
            raise Diverged(
                f"the loss is {self.last_pass_loss.item()} at step {self.state.global_step}; type "
                f"e.g. training.learning_rate={self.args.learning_rate / 10:g}"
            )
        self.state.num_input_tokens_seen = self.num_tokens
        unlogged_loss = self.unlogged_loss.describe()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            assert self.args.output_dir is not None
            run_dir, step = Path(self.args.output_dir), self.state.global_step
            write_loss(run_dir / checkpoint_name(step), unlogged_loss)
            write_marker(run_dir / checkpoint_name(step), settings=self.settings)
            checkpoints.remove_old(
                run_dir,
                newest=step,
                num_kept=self.num_checkpoints_kept,
                best_step=self.state.best_global_step,
            )
        self.accelerator.wait_for_everyone()  # whoever ends first makes the others end

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = whole_optimizer_state(self.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state, schedule = (
            torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True)
            for name in (OPTIMIZER_NAME, SCHEDULER_NAME)
        )
        restore_optimizer_state(self.optimizer, state)
        self.lr_scheduler.load_state_dict(schedule)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        checkpoint = Path(resume_from_checkpoint)
        restore_state(self.model, self.adapter.read(checkpoint / ADAPTER))
        self.unlogged_loss.read(checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.world_size == 1:  # of several processes each has one device
            save_device_states(Path(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and self.args.world_size == 1:
            restore_device_states(Path(checkpoint))


class FollowEpoch(TrainerCallback):
    """Tells the order which epoch it is: the library's own way doesn't reach it on a resume in
    several processes (accelerate 1.15, nested batch samplers)."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.epoch = int(state.epoch or 0)
