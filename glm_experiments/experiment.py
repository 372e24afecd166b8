"""One run from a checked config to its record: the pipeline on one screen.

Every stage takes its own section and the results of earlier stages, and returns a value. Data come
before the model: a wrong column costs a second, not the minutes of loading weights.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glm_experiments.assembly import assemble, plan_run, resolve_dtype
from glm_experiments.config import (
    Config,
    Keep,
    TrackingConfig,
    to_plain,
)
from glm_experiments.data.conversations import Conversation, PlainText
from glm_experiments.data.encoding import EncodedSplits, encode_splits
from glm_experiments.data.rendering import render_samples
from glm_experiments.data.splits import load_splits
from glm_experiments.described import (
    describe_data,
    describe_evaluation,
    describe_memory,
    describe_model,
    describe_parameters,
    describe_training,
)
from glm_experiments.evaluation import Evaluation
from glm_experiments.evaluation.metrics import DEFINITIONS
from glm_experiments.evaluation.objective_value import check_objective
from glm_experiments.evaluation.report import render_comparison, write_predictions
from glm_experiments.parallelism.strategies import choose_strategy
from glm_experiments.processes import meeting
from glm_experiments.processes.world import read_world
from glm_experiments.record.files import ADAPTER, METRICS, PREDICTIONS, REJECTED
from glm_experiments.record.markers import write_marked
from glm_experiments.record.masking import mask_secrets
from glm_experiments.record.metrics_log import MetricsLog
from glm_experiments.record.model_card import write_model_card
from glm_experiments.record.read_back import swept_value
from glm_experiments.record.run import Run, record_run
from glm_experiments.tracking import (
    RunDescription,
    TrackedRun,
    check_tracker,
    describe_swept_keys,
    open_tracked_run,
    untracked,
)
from glm_experiments.training.checkpoints import Start, begin_training, keep_finished
from glm_experiments.training.loop import TrainingResult, train
from glm_experiments.training.progress import Logger
from glm_experiments.training.state import Adapter

log = logging.getLogger(__name__)

# Config as it trains, nested, and fingerprint of all rows -> where the training of them begins.
Begin = Callable[[Mapping[str, Any], str], Start]


def run(
    config: Config,
    output_dir: Path,
    *,
    checkpoint: Path | None,
    overrides: Sequence[str],
    sweep: str | None,
    swept_keys: Sequence[str],
) -> float | None:
    """Run one job in a folder that it was let into; returns its objective.

    checkpoint: that it continues.

    Raises:
        RunFailed: with the message for the user, once the failure is recorded.
    """
    plain = to_plain(config)
    with record_run(output_dir, name=config.name, config=plain, overrides=overrides) as record:
        check_tracker(config.tracking)
        shown = mask_secrets(plain)  # in checkpoints and at trackers
        description = RunDescription(
            name=describe_swept_keys(shown, swept_keys) or config.name,
            folder=output_dir,
            group=sweep,
            job_type=config.tuner.name,
            tags=[config.model.name, config.parallelism.name, config.data.name],
            config=shown,
        )
        strategy = choose_strategy(config.parallelism, world=read_world(os.environ))
        begin = functools.partial(begin_training, output_dir, checkpoint)
        work = functools.partial(run_stages, config, description, begin)
        strategy.carry_out(work, record, folder=output_dir)
    keep = config.training.keep or (Keep.all if sweep is None else Keep.best)
    keep_finished(output_dir, keep=keep, best_step=record.outcome["best_step"])
    return swept_value(record.outcome)


def follow() -> None:
    """Take part in the runs of the main process, as one that torchrun started beside it."""
    for job in meeting.handed_out():
        job(Run())


def run_stages(config: Config, description: RunDescription, begin: Begin, record: Run) -> None:
    """All stages in order, in each process of the run; the record is filled as far as they get."""
    folder, outcome = description.folder, record.outcome
    strategy = choose_strategy(config.parallelism, world=read_world(os.environ)).join()
    config = resolve_dtype(config, strategy)
    plan = plan_run(config, strategy)
    with meeting.main_first():  # the others find what it has downloaded and encoded
        splits = load_splits(config.data, rejected_file=folder / REJECTED)
    start = meeting.from_main(lambda: begin(to_plain(config), splits.fingerprint))
    with meeting.main_first():
        parts = assemble(config, strategy, texts=texts_of(splits.train), folder=folder)
        encoded = encode_splits(splits, parts.tokenizer, config=config.data, longest=parts.longest)
    check_objective(config.aim(), encoded.validation)
    log.info("%s", render_samples(encoded, parts.tokenizer))
    record.environment["data"] = describe_data(splits, encoded, config.evaluation)
    outcome |= {"data": encoded.counts, "metric_definitions": DEFINITIONS, "metrics": {}}
    with open_tracking(config.tracking, description) as tracked:
        devices = parts.plan_devices()
        outcome |= devices.described
        model = parts.load_base(devices)
        record.environment["model"] = describe_model(config.model)
        before = parts.evaluate_base(model, encoded)
        outcome["metrics"] |= describe_evaluation("before", before)
        trainable = parts.tune(model)
        outcome |= describe_parameters(trainable.model)
        result = parts.memory.during("training")(train)(
            trainable,
            rows=encoded.train,
            collate=parts.collate,
            plan=plan,
            start=start,
            output_dir=folder,
            measure_losses=functools.partial(parts.measure_validation_losses, encoded=encoded),
            log_values=log_to(folder, tracked),
        )
        outcome |= describe_training(result) | save_result(trainable.adapter, result, start, folder)
        after = parts.evaluate_tuned(trainable.model, encoded)
        outcome["metrics"] |= describe_evaluation("after", after)
        outcome["objective"] = parts.find_objective(trainable.model, encoded, after)
        outcome |= describe_memory(parts.memory.gather())
        report(encoded, before, after, description=description, record=record)
        tracked.summarise(outcome)
        tracked.log_adapter(folder / ADAPTER)


def texts_of(samples: Iterable[Conversation | PlainText]) -> Iterator[str]:
    """Every text of some samples, for a tokenizer that is built from them."""
    for sample in samples:
        if isinstance(sample, PlainText):
            yield sample.text
        else:
            yield from (message.content for message in sample.messages)


def open_tracking(config: TrackingConfig, description: RunDescription) -> TrackedRun:
    """The run at its tracker, of which one process tells."""
    return open_tracked_run(config, description) if meeting.is_main() else untracked()


def log_to(folder: Path, tracked: TrackedRun) -> Logger:
    """What a training calls with the values of a step; the process that speaks keeps them."""
    metrics = MetricsLog(folder / METRICS) if meeting.is_main() else None

    def log_values(step: int, values: dict[str, float]) -> None:
        if metrics is not None:
            metrics.log(step, values)
            tracked.log(step, values)

    return log_values


def save_result(
    adapter: Adapter, result: TrainingResult, start: Start, folder: Path
) -> dict[str, int]:
    """Keep what was trained; returns its size, for the record."""
    if not meeting.is_main():
        return {}
    write = functools.partial(adapter.save, state=result.state)
    write_marked(folder / ADAPTER, write, settings=start.settings)
    files = [path for path in (folder / ADAPTER).rglob("*") if path.is_file()]
    return {"adapter_bytes": sum(file.stat().st_size for file in files)}


def report(
    encoded: EncodedSplits,
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
    *,
    description: RunDescription,
    record: Run,
) -> None:
    """Keep the answers, the adapter's card, and show what tuning changed."""
    if not meeting.is_main():
        return
    folder = description.folder
    write_model_card(
        folder / ADAPTER,
        config=description.config,
        outcome=record.outcome,
        environment=record.environment,
    )
    if before or after:
        write_predictions(folder / PREDICTIONS, encoded.validation, before, after)
        log.info("\n%s", render_comparison(before, after))
