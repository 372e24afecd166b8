"""glm-evaluate: measures a run's model again, on the same or on other data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from glm_experiments import runs
from glm_experiments.commands.command_line import build_parser, run_command
from glm_experiments.config import Config, FilesConfig, to_plain
from glm_experiments.record.files import EVALUATION, PREDICTIONS, REJECTED
from glm_experiments.record.run import Run, record_run

if TYPE_CHECKING:
    from glm_experiments.data.splits import Splits

DESCRIPTION = """\
Measure a run's model: on the rows that the run held out, or on other data.

A source that is named is measured whole, whatever the run held out:
  glm-evaluate RUN_DIR data=files data.path=FILE   (or data=alpaca, data=adgen)
  data.num_validation_rows=N                       so many of its rows, drawn at random
  evaluation.num_rows=N                            so many answers

The answers and evaluation.json are written into a folder below RUN_DIR/evaluations."""


def evaluate_run(arguments: argparse.Namespace, config: Config) -> None:
    """Answer the validation sets; write a folder with a record below the run's `evaluations`."""
    adapter = runs.find_adapter(arguments.run_dir, arguments.checkpoint)
    folder = runs.new_evaluation_folder(arguments.run_dir, now=datetime.now())
    with record_run(
        folder,
        name=config.name,
        config=to_plain(config),
        overrides=arguments.overrides,
        file_name=EVALUATION,
    ) as record:
        record.outcome |= {
            "run": str(arguments.run_dir),
            "checkpoint": arguments.checkpoint,
            "adapter": str(adapter),
        }
        measure(arguments, config, folder=folder, record=record)
    print(f"\nanswers and figures: {folder}")


def measure(arguments: argparse.Namespace, config: Config, *, folder: Path, record: Run) -> None:
    """Read, load, answer; fills the record on the way."""
    from glm_experiments.data.encoding import encode_splits, hash_measured
    from glm_experiments.evaluation.metrics import DEFINITIONS
    from glm_experiments.evaluation.report import render_comparison, write_predictions

    splits = read_splits(config, arguments.overrides, rejected_file=folder / REJECTED)
    record.environment["data"] = {"fingerprint": splits.fingerprint}
    run = runs.load_run(arguments.run_dir, config=config, checkpoint=arguments.checkpoint)
    encoded = encode_splits(
        splits, run.parts.tokenizer, config=config.data, longest=run.parts.longest
    )
    record.environment["data"]["measured"] = {
        name: hash_measured(validation, num_questions=config.evaluation.num_rows)
        for name, validation in encoded.validation.items()
    }
    record.outcome["data"] = encoded.counts
    after = run.parts.evaluate(run.model, encoded, title=arguments.checkpoint)
    write_predictions(folder / PREDICTIONS, encoded.validation, {}, after)
    record.outcome |= {
        "metrics": {"after": {name: each.figures() for name, each in after.items()}},
        "per_kind": {name: each.per_kind for name, each in after.items()},
        "metric_definitions": DEFINITIONS,
    }
    print(render_comparison({}, after))


def read_splits(config: Config, overrides: Sequence[str], *, rejected_file: Path) -> Splits:
    """The rows to measure on: of the source that the overrides name, else those of the run.

    Raises:
        ValueError: as `load_splits`, and where the run held nothing out.
    """
    from glm_experiments.data.splits import load_named, load_splits

    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if isinstance(config.data, FilesConfig) and (key := named_source(keys)) is not None:
        num_rows = config.data.num_validation_rows
        return load_named(
            config.data,
            key=key,
            num_rows=num_rows if "data.num_validation_rows" in keys else None,
            rejected_file=rejected_file,
        )
    splits = load_splits(config.data, rejected_file=rejected_file)
    if not splits.validation:
        raise ValueError(
            "this run held nothing out to be measured on; type data=files data.path=FILE"
        )
    return splits


def named_source(keys: set[str]) -> str | None:
    """The field of the data section that overrides of these keys name; None: neither."""
    if keys & {"data.validation_path", "data.validation_split"}:
        return "validation_path"
    return "path" if keys & {"data", "data.path", "data.split"} else None


def main() -> None:
    """Console entry point."""
    run_command(build_parser("glm-evaluate", DESCRIPTION), evaluate_run)


if __name__ == "__main__":
    main()
