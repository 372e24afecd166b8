"""One run from a checked config to its record: the pipeline on one screen.

The only module that sees the whole config. Every stage takes its own section and the results of
earlier stages, and returns a value.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glm_experiments.config import Config, FreezeConfig, FullConfig
from glm_experiments.data.collation import Collator
from glm_experiments.data.conversations import PlainText
from glm_experiments.data.encoding import EncodedSplits, encode_splits
from glm_experiments.data.rendering import render_samples
from glm_experiments.data.splits import Splits, load_splits
from glm_experiments.evaluation import Evaluation, evaluate, measure_loss
from glm_experiments.evaluation.report import render_comparison, write_predictions
from glm_experiments.models.preparation import prepare_model, prepare_tokenizer
from glm_experiments.parallelism.placement import Placement, plan_placement, read_world
from glm_experiments.results import MetricsLog, Run, record_run
from glm_experiments.tracking import (
    RunDescription,
    TrackedRun,
    check_tracker,
    describe_swept_keys,
    open_tracked_run,
)
from glm_experiments.training.arguments import BatchPlan, plan_batch, plan_precision
from glm_experiments.training.checkpoints import ADAPTER
from glm_experiments.training.loop import TrainingResult, train
from glm_experiments.training.memory import measure_peak_memory, reset_peak_memory
from glm_experiments.tuners import TunerAdapter, apply_tuner, count_parameters

log = logging.getLogger(__name__)

CACHE = "cache"
TOKENIZER = "tokenizer"
PREDICTIONS = "predictions.jsonl"
# What may differ between a run and its continuation: how often it speaks and saves.
CADENCE = ("logging_steps", "eval_steps", "save_steps", "save_total_limit", "resume")


def run(
    config: Config,
    output_dir: Path,
    *,
    overrides: Sequence[str],
    sweep: str | None,
    swept_keys: Sequence[str],
) -> float | None:
    """Run one job in its folder; returns its validation loss if measured, else its training loss.

    Raises:
        RunFailed: with the message for the user, once the failure is recorded.
    """
    plain = asdict(config)
    with record_run(output_dir, name=config.name, config=plain, overrides=overrides) as record:
        check_tracker(config.tracking)
        placement = plan_placement(
            config.parallelism,
            num_gpus=torch.cuda.device_count(),
            world=read_world(dict(os.environ)),
        )
        description = RunDescription(
            name=describe_swept_keys(plain, swept_keys) or config.name,
            folder=output_dir,
            group=sweep,
            job_type=config.tuner.name,
            tags=[config.model.name, config.parallelism.name, config.data.name],
            config=plain,
        )
        run_stages(config, placement, description, record)
        return record.outcome.get("best_validation_loss") or record.outcome.get("loss")


def run_stages(
    config: Config, placement: Placement, description: RunDescription, record: Run
) -> None:
    """All stages in order; fills the record on the way, so that a failed run shows how far it got.

    Data come before the model: a wrong column costs a second, not the minutes of loading weights.
    """
    folder = description.folder
    batch = plan_batch(
        config.training,
        num_processes=placement.num_processes,
        num_chunks=placement.num_chunks,
    )
    splits = load_splits(config.data, rejected_file=folder / "rejected.jsonl")
    tokenizer = prepare_tokenizer(
        config.model, texts=training_texts(splits), folder=folder / TOKENIZER
    )
    encoded = encode_splits(splits, tokenizer, config=config.data, cache_dir=folder.parent / CACHE)
    log.info("%s", render_samples(encoded, tokenizer))
    record.environment["data"] = {"fingerprint": splits.fingerprint}
    record.outcome["data"] = encoded.counts
    with open_tracked_run(config.tracking, description) as tracked:
        model = prepare_model(
            config.model, tokenizer, device_map={"": placement.device}, seed=config.seed
        )
        record.environment["model"] = {
            "path": config.model.path,
            "revision": getattr(model.config, "_commit_hash", None),
        }
        reset_peak_memory(placement.devices)
        before: dict[str, Evaluation] = {}
        after: dict[str, Evaluation] = {}
        metrics = record.outcome.setdefault("metrics", {})
        if config.evaluation.before:
            before = evaluate_sets(model, tokenizer, encoded, config, title="before tuning")
            metrics["before"] = {name: each.metrics for name, each in before.items()}
        model = apply_tuner(model, config.tuner, seed=config.seed)
        record.outcome |= describe_parameters(model)
        adapter = TunerAdapter(
            model, prompt_format=config.data.prompt_format, base=config.model.path
        )
        result = train_model(
            config,
            model,
            encoded=encoded,
            collate=build_collator(tokenizer),
            placement=placement,
            batch=batch,
            adapter=adapter,
            fingerprint=splits.fingerprint,
            folder=folder,
            tracked=tracked,
        )
        record.outcome |= describe_training(result)
        adapter.save(folder / ADAPTER, result.state)
        record.outcome["adapter_bytes"] = folder_size(folder / ADAPTER)
        if config.evaluation.after:
            after = evaluate_sets(model, tokenizer, encoded, config, title="after tuning")
            metrics["after"] = {name: each.metrics for name, each in after.items()}
        record.outcome["peak_memory_bytes"] = measure_peak_memory(placement.devices)
        if before or after:
            write_predictions(folder / PREDICTIONS, encoded.validation, before, after)
            log.info("\n%s", render_comparison(before, after))
        tracked.summarise(record.outcome)
        tracked.log_adapter(folder / ADAPTER)


def train_model(
    config: Config,
    model: nn.Module,
    *,
    encoded: EncodedSplits,
    collate: Collator,
    placement: Placement,
    batch: BatchPlan,
    adapter: TunerAdapter,
    fingerprint: str,
    folder: Path,
    tracked: TrackedRun,
) -> TrainingResult:
    """Train, logging to the run's own metrics and to the tracker."""
    metrics = MetricsLog(folder / "metrics.jsonl")

    def log_values(step: int, values: dict[str, float]) -> None:
        metrics.log(step, values)
        tracked.log(step, values)

    samples = [sample for each in encoded.validation.values() for sample in each.samples]
    return train(
        model,
        rows=encoded.train,
        collate=collate,
        filler_id=collate.pad_token_id,
        config=config.training,
        seed=config.seed,
        output_dir=folder,
        device=torch.device(placement.device),
        batch=batch,
        precision=plan_precision(
            dtype=getattr(torch, config.model.dtype),
            trained_dtype=getattr(torch, config.tuner.dtype),
            trains_own_weights=isinstance(config.tuner, FullConfig | FreezeConfig),
            device=placement.device,
        ),
        adapter=adapter,
        measure_loss=functools.partial(
            measure_loss,
            samples=samples,
            collate=collate,
            batch_size=config.evaluation.batch_size,
        ),
        log_values=log_values,
        settings=comparable_settings(config, fingerprint),
        wrap=None,
    )


def evaluate_sets(
    model: nn.Module, tokenizer: Any, encoded: EncodedSplits, config: Config, *, title: str
) -> dict[str, Evaluation]:
    """Every validation set, answered and measured."""
    return {
        name: evaluate(
            model,
            tokenizer,
            validation,
            config=config.evaluation,
            prompt_format=config.data.prompt_format,
            collate=build_collator(tokenizer),
            description=f"{name}, {title}",
        )
        for name, validation in encoded.validation.items()
    }


def build_collator(tokenizer: Any) -> Collator:
    """Rows to padded batches with this tokenizer's padding."""
    return Collator(tokenizer.pad_token_id)


def training_texts(splits: Splits) -> Iterator[str]:
    """Every text of the training rows, for a tokenizer that is built from them."""
    for row in splits.train:
        if isinstance(row, PlainText):
            yield row.text
        else:
            yield from (message.content for message in row.messages)


def describe_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters train, logged and for the record."""
    trainable, total = count_parameters(model)
    log.info(
        f"{trainable:,} of {total:,} parameters train ({100 * trainable / total:.3g} %)",
    )
    return {"trainable_parameters": trainable, "total_parameters": total}


def describe_training(result: TrainingResult) -> dict[str, Any]:
    """The record's figures of a training."""
    return {
        field.name: getattr(result, field.name) for field in fields(result) if field.name != "state"
    }


def comparable_settings(config: Config, fingerprint: str) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued, flat, by the keys that a user types."""
    training = {k: v for k, v in asdict(config.training).items() if k not in CADENCE}
    sections = {
        "model": asdict(config.model),
        "tuner": asdict(config.tuner),
        "training": training,
    }
    flat = {
        f"{name}.{key}": value for name, each in sections.items() for key, value in each.items()
    }
    return {**flat, "seed": config.seed, "data": fingerprint}


def folder_size(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
