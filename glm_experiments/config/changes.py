"""Which settings make a run another experiment, and which may change while it goes on.

Every key of the schemas stands in one of the two lists; a section's name means all of its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROWS_DECIDE = frozenset({"data.path", "data.validation_path"})
"""Where the rows lie: a run goes on from another place as long as the rows are the same."""

ANOTHER_EXPERIMENT = ROWS_DECIDE | {
    "seed",
    "tuner",
    "model.name",
    "model.path",
    "model.revision",
    "model.dtype",
    "model.weights",
    "model.geometry",
    "model.vocabulary_size",
    "data.name",
    "data.prompt_format",
    "data.context_length",
    "data.long_answers",
    "data.packing",
    "data.train_on",
    "data.num_train_rows",
    "data.num_validation_rows",
    "data.split_seed",
    "data.revision",
    "data.subset",
    "data.split",
    "data.validation_split",
    "data.format",
    "data.prompt_column",
    "data.response_column",
    "data.history_column",
    "data.assistant_name",
    "data.author",
    "data.replay_share",
    "training.learning_rate",
    "training.lr_scheduler_type",
    "training.warmup_share",
    "training.weight_decay",
    "training.max_grad_norm",
    "training.max_steps",
    "training.num_train_epochs",
    "training.batch_size",
    "training.early_stopping_patience",
    "training.extra",
}
"""What changes what is learned: a folder's run doesn't go on with another value."""

MEASURED = frozenset(
    {
        "objective",
        "evaluation.before",
        "evaluation.after",
        "evaluation.max_new_tokens",
        "evaluation.num_rows",
        "evaluation.metrics",
    }
)
"""What changes what is measured: glm-evaluate measures a finished run with other values."""

MAY_CHANGE = MEASURED | {
    "name",
    "parallelism",
    "tracking",
    "model.attn_implementation",
    "model.dequantize",
    # Copied into the tuner's and the data's section, which are compared.
    "model.attention_modules",
    "model.linear_modules",
    "model.prompt_format",
    "data.on_bad_row",
    "data.max_bad_share",
    "data.cache_dir",
    "training.micro_batch_size",
    "training.activation_checkpointing",
    "training.logging_steps",
    "training.eval_steps",
    "training.save_steps",
    "training.save_total_limit",
    "training.keep",
    "training.resume",
    "evaluation.batch_size",
}
"""How, where and how often: with another value it stays the same experiment."""


def pick_experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a nested config that another experiment would differ in, by their keys."""
    values = section_values(config)
    listed = {
        key: value
        for key, value in values.items()
        if not ANOTHER_EXPERIMENT.isdisjoint((key, key.partition(".")[0]))
    }
    cadence = "training.eval_steps"
    if values.get("training.early_stopping_patience") is None or cadence not in values:
        return listed
    return {**listed, cadence: values[cadence]}  # it decides where to stop


def pick_comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """As `pick_experiment`, for a run whose rows are compared themselves."""
    return {key: value for key, value in pick_experiment(config).items() if key not in ROWS_DECIDE}


def pick_measured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a nested config that decide what is measured, by their keys."""
    return {key: value for key, value in section_values(config).items() if key in MEASURED}


def section_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config by the keys `key` and `section.key`; what lies deeper stays whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{each}": inner for each, inner in value.items()}
        else:
            flat[key] = value
    return flat
