"""What a training asks of the library beyond our own fields, tried before anything is loaded.

transformers takes most wrong values as they are and fails where it first computes with them, which
is minutes later.
"""

from __future__ import annotations

import enum
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from glm_experiments.config import TrainingConfig
from glm_experiments.record.masking import MASK
from glm_experiments.spelling import nearest_word

# What a kind of value is called, and an example of it.
KINDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "1"),
    float: ("a number", "0.1"),
    str: ("text", "TEXT"),
    dict: ("a mapping", "{KEY: VALUE}"),
    list: ("a list", "[A,B]"),
}
# Optimizers that look at the model itself.
NEED_A_MODEL = ("lomo", "galore", "apollo")


class DevicelessArguments(TrainingArguments):
    """The library's arguments without a device: choosing one would choose it for the process."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def check_extra(config: TrainingConfig) -> None:
    """Refuse a `training.extra`, or a schedule, that the library does not know or can't use.

    Raises:
        ValueError: naming each bad key, and what to type.
    """
    known = {field.name: field for field in fields(TrainingArguments)}
    hints = get_type_hints(TrainingArguments)
    problems = []
    for key, value in config.extra.items():
        if key not in known:
            problems.append(
                f"training.extra.{key} is no argument of transformers.TrainingArguments; "
                f"type e.g. +training.extra.{nearest_word(key, known, cutoff=0)}=VALUE"
            )
        elif value == MASK:
            problems.append(
                f"training.extra.{key} is hidden in what a run leaves; type it again, e.g. "
                f"'+training.extra.{key}=${{oc.env:HF_TOKEN}}', which takes it from the environment"
            )
        elif problem := value_problem(key, value, hints[key], default=known[key].default):
            problems.append(problem)
    if problems := problems or use_problems(config):
        raise ValueError("\n".join(problems))


def value_problem(key: str, value: Any, hint: Any, *, default: Any) -> str | None:
    """Why an argument of this type can't have this value; None: it can."""
    kinds = get_args(hint) if get_origin(hint) is not dict and get_args(hint) else (hint,)
    kinds = tuple(each for each in kinds if each is not type(None))
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            names = [str(each.value) for each in kind]
            if value in names:
                return None
            meant = nearest_word(str(value), names, cutoff=0)
            return f"training.extra.{key} can't be {value}; type +training.extra.{key}={meant}"
    if any(is_a(value, kind) for kind in kinds) or (value is None and type(None) in get_args(hint)):
        return None
    named = [KINDS[kind] for each in kinds if (kind := get_origin(each) or each) in KINDS]
    if not named:
        return None  # an object of the library's own: it shall say so itself
    example = default if isinstance(default, int | float) else named[0][1]
    typed = f"+training.extra.{key}={str(example).lower() if default is example else example}"
    return (
        f"training.extra.{key} must be {' or '.join(name for name, _ in named)}, got {value!r}; "
        f"type e.g. {typed if '{' not in typed else repr(typed)}"
    )


def is_a(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type, as the library means it."""
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def use_problems(config: TrainingConfig) -> list[str]:
    """What the library says when it first uses the values: arguments, optimizer, schedule."""
    schedule = config.lr_scheduler_type
    try:
        arguments = build(config, config.extra)
    except ValueError as error:
        return [f"{culprit(config)}: {error}; leave it out, or type another value"]
    weight = torch.nn.Parameter(torch.zeros(1))
    if not any(word in arguments.optim for word in NEED_A_MODEL):
        try:
            kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
            kind([weight], **settings)
        except (TypeError, ValueError, ImportError) as error:
            own = [each for each in config.extra if each.startswith(("optim", "adam"))]
            named = ", ".join(f"training.extra.{key}={config.extra[key]}" for key in own)
            return [f"{named or 'training'}: {error}; leave it out, or type another value"]
    given = arguments.lr_scheduler_kwargs
    try:
        get_scheduler(
            schedule,
            optimizer=torch.optim.SGD([weight], lr=config.learning_rate),
            num_warmup_steps=1,
            num_training_steps=config.max_steps or 10**6,
            scheduler_specific_kwargs=given,  # type: ignore[arg-type] # text fails here
        )
    except (TypeError, ValueError, KeyError) as error:
        typed = "'+training.extra.lr_scheduler_kwargs={KEY: VALUE}'"
        return [
            f"training.lr_scheduler_type={schedule} can't be used with the arguments "
            f"{given or 'that it has'}: {error}; type them as {typed}"
        ]
    return []


def build(config: TrainingConfig, extra: dict[str, Any]) -> DevicelessArguments:
    """Arguments of a training on the CPU that differ from the defaults in `extra` alone.

    Raises:
        ValueError: in the library's words, for values that don't go together, mappings with keys
            of another, files that aren't there and packages that are missing.
    """
    try:
        return DevicelessArguments(
            output_dir="unused",
            lr_scheduler_type=config.lr_scheduler_type,
            learning_rate=config.learning_rate,
            use_cpu=True,
            report_to="none",
            **extra,
        )
    except (TypeError, OSError, ImportError) as error:
        raise ValueError(str(error)) from error


def culprit(config: TrainingConfig) -> str:
    """The key without which the others can be used; all of them where there is none such."""
    for key, value in config.extra.items():
        try:
            build(config, {each: config.extra[each] for each in config.extra if each != key})
        except ValueError:
            continue
        return f"training.extra.{key}={value}"
    return "training.extra"
