"""glm-evaluate: measures a run's model again, on the same or on other data; or another model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from glm_experiments import runs
from glm_experiments.commands.command_line import run_command
from glm_experiments.commands.subjects import Subject, build_subject_parser, find_subject
from glm_experiments.config import Config, FilesConfig, to_plain
from glm_experiments.record.files import EVALUATION, PREDICTIONS, REJECTED
from glm_experiments.record.run import Run, record_run

if TYPE_CHECKING:
    from glm_experiments.data.splits import Splits

DESCRIPTION = """\
Measure a run's model: on the rows that the run held out, or on other data.

Or a model without a run, on data=identity (generated) or what is named instead:
  glm-evaluate EXPORT_DIR data=files data.path=FILE    what glm-export wrote
  glm-evaluate model=tiny_glm data=general             a model that is not tuned

A source that is named is measured whole, whatever the run held out:
  glm-evaluate RUN_DIR data=files data.path=FILE   (or data=alpaca, data=adgen)
  data.num_validation_rows=N                       so many of its rows, drawn at random
  evaluation.num_rows=N                            so many answers

The answers and evaluation.json are written into a folder below RUN_DIR/evaluations (of a model
that is not tuned: outputs/NAME-untuned/evaluations)."""


def evaluate_subject(arguments: argparse.Namespace, subject: Subject) -> None:
    """Answer the validation sets; write a folder with a record below the subject's."""
    folder = runs.new_evaluation_folder(subject.folder, now=datetime.now())
    with record_run(
        folder,
        name=subject.name,
        config=to_plain(subject.config),
        overrides=subject.overrides,
        file_name=EVALUATION,
    ) as record:
        record.outcome |= subject.described
        measure(subject, title=arguments.checkpoint, folder=folder, record=record)
    print(f"\nanswers and figures: {folder}")


def measure(subject: Subject, *, title: str, folder: Path, record: Run) -> None:
    """Read, load, answer; fills the record on the way."""
    from glm_experiments.data.encoding import encode_splits, hash_measured
    from glm_experiments.evaluation.metrics import DEFINITIONS
    from glm_experiments.evaluation.report import render_comparison, write_predictions

    config = subject.config
    splits = read_splits(config, subject.overrides, rejected_file=folder / REJECTED)
    record.environment["data"] = {"fingerprint": splits.fingerprint}
    loaded = subject.load()
    encoded = encode_splits(
        splits, loaded.parts.tokenizer, config=config.data, longest=loaded.parts.longest
    )
    record.environment["data"]["measured"] = {
        name: hash_measured(validation, num_questions=config.evaluation.num_rows)
        for name, validation in encoded.validation.items()
    }
    record.outcome["data"] = encoded.counts
    measured = loaded.parts.evaluate(loaded.model, encoded, title=title)
    before, after = ({}, measured) if subject.when == "after" else (measured, {})
    write_predictions(folder / PREDICTIONS, encoded.validation, before, after)
    record.outcome |= {
        "metrics": {subject.when: {name: each.figures() for name, each in measured.items()}},
        "per_kind": {name: each.per_kind for name, each in measured.items()},
        "metric_definitions": DEFINITIONS,
    }
    print(render_comparison(before, after))


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
        raise ValueError("nothing is held out to be measured on; type data=files data.path=FILE")
    return splits


def named_source(keys: set[str]) -> str | None:
    """The field of the data section that overrides of these keys name; None: neither."""
    if keys & {"data.validation_path", "data.validation_split"}:
        return "validation_path"
    return "path" if keys & {"data", "data.path", "data.split"} else None


def main() -> None:
    """Console entry point."""
    parser = build_subject_parser("glm-evaluate", DESCRIPTION)
    run_command(parser, evaluate_subject, prepare=find_subject)


if __name__ == "__main__":
    main()
