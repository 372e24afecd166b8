"""Runs one training: from a tuned model and rows to a result, with checkpoints on the way."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging as library_logging

from glm_experiments.record.errors import Diverged, Interrupted
from glm_experiments.record.files import ADAPTER, checkpoint_name
from glm_experiments.record.markers import what_is_broken
from glm_experiments.training.arguments import TrainingPlan, build_arguments
from glm_experiments.training.checkpoints import Start
from glm_experiments.training.progress import Logger, Progress
from glm_experiments.training.state import Adapter, State, restore_state, trainable_state
from glm_experiments.training.steps import MicroBatchCollator, PaddingCollator, Row, WholeSteps
from glm_experiments.training.stopping import EarlyStop, stop_on_signal
from glm_experiments.training.trainer import GLMTrainer
from glm_experiments.training.validation import MeasureLosses, count_worse, last_losses

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training came to, its former parts included where it was resumed.

    best_validation_loss: that of `best_validation_set`, which decides, at `best_step`.
    validation_losses: by set, as last measured.
    tokens_per_second: of this process alone.
    state: the trained parameters, whole, on the CPU.
    """

    steps: int
    loss: float | None
    best_validation_loss: float | None
    best_validation_set: str | None
    best_step: int | None
    validation_losses: dict[str, float]
    tokens: int
    tokens_per_second: float | None
    state: State


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainable:
    """A model ready to train.

    module: what is called in the place of `model`; that itself where nothing is around it.
    adapter: how what trains is kept.
    """

    model: PreTrainedModel
    module: nn.Module
    adapter: Adapter


def train(
    trainable: Trainable,
    *,
    rows: Sequence[Row],
    collate: PaddingCollator,
    plan: TrainingPlan,
    start: Start,
    output_dir: Path,
    measure_losses: MeasureLosses,
    log_values: Logger,
) -> TrainingResult:
    """Train the parameters that require a gradient.

    Args:
        rows: samples, or packed rows of several.
        measure_losses: those of the validation sets; the first decides which step was best.
        log_values: receives a step and its values, in the process that speaks.

    Raises:
        ValueError: for settings that the library refuses, or a checkpoint of another tuner.
        Diverged: where the loss is no longer finite.
        Interrupted: after a signal, once a checkpoint is written.
    """
    library_logging.set_verbosity_warning()  # type: ignore[no-untyped-call]
    model, adapter, config = trainable.model, trainable.adapter, plan.config
    resume = start.checkpoint
    arguments = build_arguments(plan, output_dir=output_dir)
    trainer = GLMTrainer(
        model=model,
        args=arguments,
        rows=WholeSteps(rows, batch_size=config.batch_size, filler_id=collate.pad_token_id),
        collate=MicroBatchCollator(collate, num_micro_batches=plan.batch.num_micro_batches),
        precision=plan.precision,
        adapter=adapter,
        measure_losses=measure_losses,
        settings=start.settings,
        num_checkpoints_kept=config.save_total_limit,
        module=trainable.module,
    )
    torch.manual_seed(plan.seed + arguments.process_index)  # processes drop out each their own
    progress = Progress(
        count_tokens=lambda: trainer.num_tokens,
        log_values=log_values,
        is_main=arguments.process_index == 0,
    )
    replace_callbacks(trainer, progress)
    saved = None
    if resume is not None:
        saved = TrainerState.load_from_json(str(resume / TRAINER_STATE_NAME))
        progress.last_loss = last_loss(saved)
        trainer.num_tokens = saved.num_input_tokens_seen
    num_worse = 0 if saved is None else count_worse(saved)
    patience = config.early_stopping_patience
    if patience is not None:
        trainer.add_callback(EarlyStop(patience=patience, num_worse=num_worse))
    with stop_on_signal() as stop, progress, warnings.catch_warnings():
        trainer.add_callback(stop)
        # The library would train one more step of a training that has come to its end.
        if saved is not None and (
            saved.global_step >= saved.max_steps or (patience is not None and num_worse >= patience)
        ):
            assert resume is not None
            log.info("%s is the end of this training: nothing is left to do", resume)
            restore_state(model, adapter.read(resume / ADAPTER))
            trainer.state = saved
        else:
            if resume is not None:
                log.info("continuing %s", resume)
            try:
                trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
            except pickle.UnpicklingError as error:
                raise ValueError(
                    f"a file in {resume} is damaged, or holds more than tensors: loading that "
                    "could run code, so it is refused; copy the checkpoint again, or remove it"
                ) from error
    restore_forward(model)
    if (signum := stop.agree()) is not None:  # after the last step, too: what comes takes a while
        raise Interrupted(signum)
    if config.early_stopping_patience is not None and trainer.state.best_global_step:
        best = output_dir / checkpoint_name(trainer.state.best_global_step)
        if (problem := what_is_broken(best)) is not None:
            raise RuntimeError(
                f"{best}, the best of this training, can't be used: {problem}; copy it again, or "
                "type training.resume=never to start anew"
            )
        log.info("the best validation loss was at step %s", trainer.state.best_global_step)
        restore_state(model, adapter.read(best / ADAPTER))
    state = trainable_state(model)
    validation_losses = last_losses(trainer.state)
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise Diverged("trained parameters are not finite; type a lower training.learning_rate")
    return TrainingResult(
        steps=trainer.state.global_step,
        loss=progress.last_loss,
        best_validation_loss=trainer.state.best_metric,
        best_validation_set=next(iter(validation_losses), None),
        best_step=trainer.state.best_global_step,
        validation_losses=validation_losses,
        tokens=trainer.num_tokens,
        tokens_per_second=progress.tokens_per_second,
        state=state,
    )


def last_loss(state: TrainerState) -> float | None:
    """The last training loss that a saved state knows of."""
    return next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)


def restore_forward(model: nn.Module) -> None:
    """Take off the autocast that accelerate puts around a model under float16: it is for training.

    accelerate 1.15's own way takes off the model's own decorators, too.
    """
    original = vars(model).pop("_original_forward", None)
    if original is not None:
        del model.forward
        if model.forward != original:  # it was an instance's own: that of a split model
            model.forward = original


def replace_callbacks(trainer: GLMTrainer, progress: Progress) -> None:
    """Our progress instead of the library's printing."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(progress)
