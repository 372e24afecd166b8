"""glm-evaluate: measures a run's model again, on the same or on other data."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime

from glm_experiments import runs
from glm_experiments.commands.arguments import build_parser, run_command
from glm_experiments.config import Config
from glm_experiments.results import capture_environment, write_json


def evaluate_run(arguments: argparse.Namespace, config: Config) -> None:
    """Answer the validation sets; write a folder below the run's `evaluations`."""
    folder = runs.new_evaluation_folder(arguments.run_dir, now=datetime.now())
    from glm_experiments.data.encoding import encode_splits
    from glm_experiments.data.splits import load_splits
    from glm_experiments.evaluation.report import render_comparison, write_predictions
    from glm_experiments.experiment import CACHE, PREDICTIONS, evaluate_sets

    splits = load_splits(config.data, rejected_file=folder / "rejected.jsonl")
    run = runs.load_run(arguments.run_dir, config=config, checkpoint=arguments.checkpoint)
    encoded = encode_splits(
        splits, run.tokenizer, config=config.data, cache_dir=arguments.run_dir.parent / CACHE
    )
    after = evaluate_sets(run.model, run.tokenizer, encoded, config, title=arguments.checkpoint)
    write_predictions(folder / PREDICTIONS, encoded.validation, {}, after)
    write_json(
        folder / "evaluation.json",
        {
            "run": str(arguments.run_dir),
            "checkpoint": arguments.checkpoint,
            "adapter": str(run.adapter),
            "metrics": {name: each.metrics for name, each in after.items()},
            "per_kind": {name: each.per_kind for name, each in after.items()},
            "config": asdict(config),
            "environment": {**capture_environment(), "data": {"fingerprint": splits.fingerprint}},
        },
    )
    print(render_comparison({}, after))
    print(f"\nanswers and figures: {folder}")


def main() -> None:
    """Console entry point."""
    run_command(
        build_parser(
            "glm-evaluate",
            "Measure a run's model on its validation data, or on "
            "other data, e.g. data=alpaca data.path=FILE",
        ),
        evaluate_run,
    )


if __name__ == "__main__":
    main()
