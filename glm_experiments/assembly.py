"""A config -> strategy, tokenizer, model, adapter: what a run, a saved run or a measurement is made
of, each part when it is asked for. Beside the pipeline the only one that sees the whole config."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import Config, Dtype
from glm_experiments.data.collation import Collator
from glm_experiments.data.encoding import EncodedSplits, ValidationSet
from glm_experiments.evaluation import Evaluation, evaluate, measure_loss
from glm_experiments.evaluation.generation import generate_answers
from glm_experiments.evaluation.objective_value import find_objective
from glm_experiments.models.devices import choose_dtype
from glm_experiments.models.preparation import (
    check_context_length,
    outline_model,
    prepare_model,
    prepare_tokenizer,
)
from glm_experiments.parallelism.strategy import DevicePlan, MicroBatch, Strategy, Tune
from glm_experiments.parallelism.together import Answer, MeasureLoss
from glm_experiments.processes import meeting
from glm_experiments.record.files import TOKENIZER
from glm_experiments.tokenizer_protocol import Tokenizer
from glm_experiments.training.activation_checkpointing import apply_activation_checkpointing
from glm_experiments.training.arguments import TrainingPlan, plan_batch, plan_precision
from glm_experiments.training.extra import check_extra
from glm_experiments.training.loop import Trainable
from glm_experiments.training.memory import PeakMemory
from glm_experiments.tuners import TunerAdapter, apply_tuner, settle_precision

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assembly:
    """What one config comes to on the devices of one process."""

    config: Config
    strategy: Strategy
    tokenizer: Tokenizer
    longest: int | None  # tokens that the model takes; None: it doesn't say
    memory: PeakMemory

    @property
    def collate(self) -> Collator:
        """Rows to padded batches with this tokenizer's padding."""
        return Collator(self.tokenizer.pad_token_id)

    def apply_tuner(self, model: PreTrainedModel) -> PreTrainedModel:
        """Let exactly the tuner's parameters train, in place.

        Raises:
            ValueError: for settings that don't fit the model.
        """
        return apply_tuner(model, self.config.tuner, seed=self.config.seed)

    @property
    def answer(self) -> Answer:
        """`generate_answers` as all processes call it together."""
        return self.memory.during("generation")(self.strategy.share_answers(generate_answers))

    @property
    def measure_loss(self) -> MeasureLoss:
        """`measure_loss` as all processes call it together."""
        return self.memory.during("evaluation")(self.strategy.share_measuring(measure_loss))

    def plan_devices(self, *, tune: Tune | None = None) -> DevicePlan:
        """Where the parts of the model load; tune: what will be done to it, if not as configured.

        Raises:
            ValueError: for a model that can't be split so.
            RuntimeError: for one that the devices can't hold.
        """
        config = self.config
        return self.strategy.plan_devices(
            functools.partial(outline_model, config.model, self.tokenizer),
            tune=tune or self.apply_tuner,
            micro_batch=MicroBatch(
                num_rows=config.training.micro_batch_size,
                length=config.data.context_length,
                dtype=getattr(torch, config.model.dtype),
                activation_checkpointing=config.training.activation_checkpointing,
            ),
        )

    def load_base(self, plan: DevicePlan) -> PreTrainedModel:
        """The untuned model on its devices.

        Raises:
            ValueError: for what can't be loaded, or doesn't belong to the tokenizer.
            RuntimeError: for what the devices can't do or hold.
        """
        model = prepare_model(
            self.config.model,
            self.tokenizer,
            device_map=plan.device_map,
            seed=self.config.seed,
        )
        return self.strategy.lay_out(model, plan)

    def tune(self, model: PreTrainedModel) -> Trainable:
        """Make a base model ready to train, in place.

        What is applied to it stands here, in this order, and nowhere else: the tuner, activation
        checkpointing, the strategy's wrapper.
        """
        config = self.config
        model = self.apply_tuner(model)
        adapter = TunerAdapter(
            model,
            prompt_format=config.data.prompt_format,
            base=config.model.path,
            revision=config.model.revision,
        )
        model = apply_activation_checkpointing(model, config.training)
        module = self.strategy.wrap(model, trains_own_weights=config.tuner.trains_own_weights)
        return Trainable(model=model, module=module, adapter=adapter)

    def evaluate_base(
        self, model: PreTrainedModel, encoded: EncodedSplits
    ) -> dict[str, Evaluation]:
        """Every validation set before tuning, where the config asks for it."""
        if not self.config.evaluation.before:
            return {}
        return self.evaluate(self.strategy.measurable(model), encoded, title="before tuning")

    def evaluate_tuned(
        self, model: PreTrainedModel, encoded: EncodedSplits
    ) -> dict[str, Evaluation]:
        """Every validation set after tuning, where the config asks for it; from here on the model
        is what a later command makes of the saved state."""
        self.strategy.settle(model, settle_precision)
        if not self.config.evaluation.after:
            return {}
        return self.evaluate(model, encoded, title="after tuning")

    def evaluate(
        self, model: nn.Module, encoded: EncodedSplits, *, title: str
    ) -> dict[str, Evaluation]:
        """Every validation set, answered and measured; title: says when, beside the progress."""
        return {
            name: evaluate(
                model,
                self.tokenizer,
                validation,
                config=self.config.evaluation,
                prompt_format=self.config.data.prompt_format,
                collate=self.collate,
                description=f"{name}, {title}" if meeting.is_main() else None,
                answer=self.answer,
                measure=self.measure_loss,
            )
            for name, validation in encoded.validation.items()
        }

    def measure_validation_losses(
        self, model: nn.Module, *, encoded: EncodedSplits
    ) -> dict[str, float]:
        """Mean loss over the labelled tokens of each validation set, the task's own first."""
        return {
            name: self.measure_set(model, validation)
            for name, validation in encoded.validation.items()
        }

    def find_objective(
        self, model: nn.Module, encoded: EncodedSplits, after: Mapping[str, Evaluation]
    ) -> dict[str, Any]:
        """What a sweeper optimises, by name and value; after: what was measured of the model."""
        measure = functools.partial(self.measure_set, model)
        return find_objective(self.config.aim(), encoded.validation, after, measure_loss=measure)

    def measure_set(self, model: nn.Module, validation: ValidationSet) -> float:
        """Mean loss over the labelled tokens of one validation set."""
        return self.measure_loss(
            model,
            samples=validation.samples,
            collate=self.collate,
            batch_size=self.config.evaluation.batch_size,
        )


def assemble(config: Config, strategy: Strategy, *, texts: Iterable[str], folder: Path) -> Assembly:
    """The parts that are needed before any weight is read.

    Args:
        texts: a tokenizer is built from them where the model has none.
        folder: the run's, where such a tokenizer is kept.

    Raises:
        ValueError: for a path without a known tokenizer, or contexts longer than the model's.
    """
    tokenizer = prepare_tokenizer(config.model, texts=texts, folder=folder / TOKENIZER)
    longest = check_context_length(config.model, config.data.context_length)
    return Assembly(config, strategy, tokenizer, longest, PeakMemory(strategy.devices))


def resolve_dtype(config: Config, strategy: Strategy) -> Config:
    """A config whose `model.dtype` is known: `auto` is what every device of the run computes in.

    Raises:
        ValueError: for a tuner whose precision doesn't go with it.
    """
    if config.model.dtype is not Dtype.auto:
        return config
    chosen = choose_dtype(map(torch.device, strategy.devices))
    lacks_it = meeting.largest(int(chosen is torch.float16))  # of several processes, any
    dtype = Dtype.float16 if lacks_it else Dtype.bfloat16
    log.info("model.dtype=auto is %s on %s", dtype, ", ".join(dict.fromkeys(strategy.devices)))
    resolved = replace(config, model=replace(config.model, dtype=dtype))
    if problems := resolved.precision_problems():
        raise ValueError(problems[0])
    return resolved


def plan_run(config: Config, strategy: Strategy) -> TrainingPlan:
    """How a config trains on these devices, checked before anything is read.

    Raises:
        ValueError: for a batch that doesn't divide, or a `training.extra` that can't be used.
        RuntimeError: for a precision that the device can't train in.
    """
    check_extra(config.training)
    return TrainingPlan(
        config=config.training,
        seed=config.seed,
        device=torch.device(strategy.device),
        batch=plan_batch(
            config.training,
            num_processes=strategy.num_processes,
            num_micro_batches=strategy.num_micro_batches,
        ),
        precision=plan_precision(
            dtype=getattr(torch, config.model.dtype),
            trained_dtype=getattr(torch, config.tuner.dtype),
            trains_own_weights=config.tuner.trains_own_weights,
            device=strategy.device,
        ),
    )
