"""One run from a checked config to its record: the pipeline on one screen.

The only module that sees the whole config. Every stage takes its own section and the results of
earlier stages, and returns a value.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glm_experiments.config import (
    Config,
    DataParallelConfig,
    DisabledConfig,
    FreezeConfig,
    FullConfig,
    ModelParallelConfig,
    ShardedConfig,
)
from glm_experiments.data.collation import Collator
from glm_experiments.data.conversations import PlainText
from glm_experiments.data.encoding import EncodedSplits, encode_splits
from glm_experiments.data.rendering import render_samples
from glm_experiments.data.splits import Splits, load_splits
from glm_experiments.evaluation import Evaluation, evaluate, measure_loss
from glm_experiments.evaluation.generation import generate_answers
from glm_experiments.evaluation.metrics import DEFINITIONS
from glm_experiments.evaluation.report import render_comparison, write_predictions
from glm_experiments.models.preparation import (
    find_commit,
    outline_model,
    prepare_model,
    prepare_tokenizer,
)
from glm_experiments.parallelism import processes
from glm_experiments.parallelism.data_parallel import DataParallel
from glm_experiments.parallelism.distributed import replicate
from glm_experiments.parallelism.layer_plan import describe_stages, plan_stages, render_stages
from glm_experiments.parallelism.layer_sizes import measure_free_memory, measure_sizes
from glm_experiments.parallelism.model_parallel import (
    ModelParallel,
    map_parts,
    name_parts,
    split_model,
)
from glm_experiments.parallelism.placement import Placement, World, plan_placement, read_world
from glm_experiments.parallelism.sharded import (
    ShardedPasses,
    copy_structure,
    shard,
    source_device,
)
from glm_experiments.parallelism.workers import run_workers
from glm_experiments.results import MetricsLog, Run, record_run
from glm_experiments.tracking import (
    RunDescription,
    TrackedRun,
    check_tracker,
    describe_swept_keys,
    open_tracked_run,
)
from glm_experiments.training.arguments import (
    BatchPlan,
    Precision,
    plan_batch,
    plan_precision,
)
from glm_experiments.training.checkpoints import ADAPTER, find_resume
from glm_experiments.training.extra import check_extra
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
        world = read_world(dict(os.environ))
        placement = place(config, world)
        description = RunDescription(
            name=describe_swept_keys(plain, swept_keys) or config.name,
            folder=output_dir,
            group=sweep,
            job_type=config.tuner.name,
            tags=[config.model.name, config.parallelism.name, config.data.name],
            config=plain,
        )
        job = functools.partial(run_in_world, config, description)
        if world is not None:  # started by torchrun: the other processes wait for what to do
            processes.hand_out(job)
            job(record)
        elif placement.num_processes > 1:
            run_workers(job, record, num_processes=placement.num_processes, folder=output_dir)
        else:
            run_stages(config, placement, description, record)
        return record.outcome.get("best_validation_loss") or record.outcome.get("loss")


def follow() -> None:
    """Take part in the runs of the main process, as one that torchrun started beside it."""
    for job in processes.handed_out():
        job(Run())


def run_in_world(config: Config, description: RunDescription, record: Run) -> None:
    """All stages in one of several processes; the first one speaks and writes."""
    world = read_world(dict(os.environ))
    assert world is not None
    placement = place(config, world)
    processes.join_world(world, device=placement.device)
    run_stages(config, placement, description, record)


def place(config: Config, world: World | None) -> Placement:
    """The devices of this process."""
    return plan_placement(config.parallelism, num_gpus=torch.cuda.device_count(), world=world)


def run_stages(
    config: Config, placement: Placement, description: RunDescription, record: Run
) -> None:
    """All stages in order; fills the record on the way, so that a failed run shows how far it got.

    Data come before the model: a wrong column costs a second, not the minutes of loading weights.
    """
    folder = description.folder
    check_extra(config.training)
    batch = plan_batch(
        config.training,
        num_processes=placement.num_processes,
        num_chunks=placement.num_chunks,
    )
    precision = plan_precision(
        dtype=getattr(torch, config.model.dtype),
        trained_dtype=getattr(torch, config.tuner.dtype),
        trains_own_weights=isinstance(config.tuner, FullConfig | FreezeConfig),
        device=placement.device,
    )
    with processes.main_first():  # the others find what it has downloaded and encoded
        splits = load_splits(config.data, rejected_file=folder / "rejected.jsonl")
        tokenizer = prepare_tokenizer(
            config.model, texts=training_texts(splits), folder=folder / TOKENIZER
        )
        cache_dir = folder.parent / CACHE
        encoded = encode_splits(splits, tokenizer, config=config.data, cache_dir=cache_dir)
    settings = comparable_settings(config, splits.fingerprint)
    resume = processes.from_main(
        lambda: find_resume(config.training.resume, run_dir=folder, settings=settings)
    )
    log.info("%s", render_samples(encoded, tokenizer))
    record.environment["data"] = {"fingerprint": splits.fingerprint}
    record.outcome["data"] = encoded.counts
    is_main = processes.is_main()
    is_sharded = isinstance(config.parallelism, ShardedConfig) and placement.num_processes > 1
    tracking = config.tracking if is_main else DisabledConfig(name="disabled")
    with open_tracked_run(tracking, description) as tracked:
        # A module that isn't there, or a layer too many, must not cost the minutes of loading.
        apply_tuner(outline_model(config.model, tokenizer), config.tuner)
        device_map = {"": source_device() if is_sharded else placement.device}
        if isinstance(config.parallelism, ModelParallelConfig):
            device_map, record.outcome["split"] = plan_split(config, tokenizer, placement)
        model = prepare_model(config.model, tokenizer, device_map=device_map, seed=config.seed)
        if isinstance(config.parallelism, ModelParallelConfig):
            model = split_model(model, device_map)
        record.environment["model"] = {
            "path": config.model.path,
            "revision": find_commit(config.model),
        }
        reset_peak_memory(placement.devices)
        before: dict[str, Evaluation] = {}
        after: dict[str, Evaluation] = {}
        metrics = record.outcome.setdefault("metrics", {})
        record.outcome["metric_definitions"] = DEFINITIONS
        if config.evaluation.before:
            base = model
            if is_sharded:  # tuners change whole weights, so what is sharded here is another model
                base = shard(copy_structure(model), device=placement.device)
            before = evaluate_sets(base, tokenizer, encoded, config, title="before tuning")
            del base
            metrics["before"] = {name: each.metrics for name, each in before.items()}
        model = apply_tuner(model, config.tuner, seed=config.seed)
        record.outcome |= describe_parameters(model)
        adapter = TunerAdapter(
            model, prompt_format=config.data.prompt_format, base=config.model.path
        )
        if is_sharded:
            model = shard(model, device=placement.device)
        result = train_model(
            config,
            model,
            encoded=encoded,
            collate=build_collator(tokenizer),
            placement=placement,
            batch=batch,
            precision=precision,
            adapter=adapter,
            settings=settings,
            resume=resume,
            folder=folder,
            tracked=tracked,
        )
        record.outcome |= describe_training(result)
        if is_main:
            adapter.save(folder / ADAPTER, result.state)
            record.outcome["adapter_bytes"] = folder_size(folder / ADAPTER)
        if config.evaluation.after:
            after = evaluate_sets(model, tokenizer, encoded, config, title="after tuning")
            metrics["after"] = {name: each.metrics for name, each in after.items()}
        record.outcome["peak_memory_bytes"] = gather_peaks(measure_peak_memory(placement.devices))
        if is_main and (before or after):
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
    precision: Precision,
    adapter: TunerAdapter,
    settings: dict[str, Any],
    resume: Path | None,
    folder: Path,
    tracked: TrackedRun,
) -> TrainingResult:
    """Train, logging to the run's own metrics and to the tracker."""
    metrics = MetricsLog(folder / "metrics.jsonl") if processes.is_main() else None

    def log_values(step: int, values: dict[str, float]) -> None:
        if metrics is not None:
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
        precision=precision,
        adapter=adapter,
        measure_loss=functools.partial(
            plan_measuring(config)[1],
            samples=samples,
            collate=collate,
            batch_size=config.evaluation.batch_size,
        ),
        log_values=log_values,
        settings=settings,
        resume=resume,
        wrap=plan_wrap(config, placement),
    )


def plan_split(
    config: Config, tokenizer: Any, placement: Placement
) -> tuple[dict[str, str], dict[str, Any]]:
    """Which device each part of the model goes to, and the record of the plan, before it loads."""
    outline = outline_model(config.model, tokenizer)
    parts = name_parts(outline)
    sizes = measure_sizes(
        apply_tuner(outline, config.tuner),
        dtype=getattr(torch, config.model.dtype),
        num_rows=config.training.micro_batch_size,
        length=config.data.context_length,
        activation_checkpointing=config.training.activation_checkpointing,
    )
    stages = plan_stages(
        sizes,
        devices=placement.devices,
        free_bytes=measure_free_memory(placement.devices),
        num_micro_batches=placement.num_chunks,
    )
    log.info("%s", render_stages(stages, num_micro_batches=placement.num_chunks))
    return map_parts(parts, stages), describe_stages(stages, num_micro_batches=placement.num_chunks)


def plan_wrap(config: Config, placement: Placement) -> Callable[[nn.Module], nn.Module] | None:
    """What makes the module that trains out of the model; None: it trains as it is."""
    if isinstance(config.parallelism, DataParallelConfig):
        devices = [torch.device(device) for device in placement.devices]
        return functools.partial(DataParallel, devices=devices)
    if isinstance(config.parallelism, ModelParallelConfig):
        return ModelParallel
    if placement.num_processes == 1:
        return None
    if isinstance(config.parallelism, ShardedConfig):
        # The gradients of the model's own weights are as large as what was sharded.
        trains_own_weights = isinstance(config.tuner, FullConfig | FreezeConfig)
        return functools.partial(ShardedPasses, reduces_every_pass=trains_own_weights)
    return functools.partial(replicate, device=placement.device)


def plan_measuring(config: Config) -> tuple[processes.Answer, processes.MeasureLoss]:
    """Who answers questions and measures losses: each process its share, or all of them alike.

    A sharded model computes only where all processes do.
    """
    if processes.num_processes() == 1 or isinstance(config.parallelism, ShardedConfig):
        return generate_answers, measure_loss
    return processes.answer_together(generate_answers), processes.measure_together(measure_loss)


def gather_peaks(peaks: dict[str, int]) -> dict[str, int]:
    """The peaks of all processes, by device; where two have one name, with the process's rank."""
    gathered: dict[str, int] = {}
    for rank, each in enumerate(processes.gather(peaks)):
        for device, peak in each.items():
            gathered[f"{device} of process {rank}" if device in gathered else device] = peak
    return gathered


def evaluate_sets(
    model: nn.Module, tokenizer: Any, encoded: EncodedSplits, config: Config, *, title: str
) -> dict[str, Evaluation]:
    """Every validation set, answered and measured."""
    answer, measure = plan_measuring(config)
    return {
        name: evaluate(
            model,
            tokenizer,
            validation,
            config=config.evaluation,
            prompt_format=config.data.prompt_format,
            collate=build_collator(tokenizer),
            description=f"{name}, {title}" if processes.is_main() else None,
            answer=answer,
            measure=measure,
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
