"""Checks a command line before anything slow: composes every job that it asks for and reports all
that is wrong with it. Knows sweeps, and of a bad override only that it has an explanation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glm_experiments import config as schemas
from glm_experiments.composing.explaining import explain, reason, shape_problem, sign_problem
from glm_experiments.composing.grammar import (
    doubled_problems,
    folder_problem,
    grammar_problem,
    quote_text,
)
from glm_experiments.composing.loader import build_loader, compose

# Composing takes about 50 ms a job: of a larger grid each value is checked, not each combination.
MOST_COMBINATIONS_CHECKED = 16


def check_command_line(
    overrides: list[str], *, config_dir: str | None = None, multirun: bool = False
) -> list[str]:
    """Compose and check every job that the command line asks for.

    Returns:
        The keys that differ between the jobs of a sweep.

    Raises:
        ValueError: with every problem, one a line; `Impossible` where all of it composes.
    """
    loader = build_loader(config_dir)
    overrides = [quote_text(each) for each in overrides]
    problems = dict.fromkeys(doubled_problems(overrides))  # in order, each once
    for override in overrides:
        if override.startswith("hydra.") and (
            problem := grammar_problem(override) or folder_problem(override)
        ):
            problems[problem] = None
    composes = not problems
    overrides = [each for each in overrides if not each.startswith("hydra.")]
    axes = read_axes(loader, overrides) if multirun else [[override] for override in overrides]
    for job in plan_jobs(axes):
        try:
            check_job(loader, job)
        except ValueError as error:
            composes = composes and isinstance(error, schemas.Impossible)
            for line in str(error).splitlines():
                problems[line.removeprefix("- ")] = None
    if problems:
        kind = schemas.Impossible if composes else ValueError
        raise kind(schemas.join_problems(problems))
    return [values[0].partition("=")[0].lstrip("+") for values in axes if len(values) > 1]


def compose_checked(overrides: list[str], *, refused: Mapping[str, str]) -> DictConfig:
    """The config of a model that no run made, as of one job.

    refused: keys and groups that have no meaning for it -> why.

    Raises:
        ValueError: with every problem, one a line.
    """
    reasons = dict.fromkeys(("hydra", "sweep"), "that is for glm-train") | dict(refused)
    problems = {
        override: f"{override}: {why}; leave it out"
        for key, why in reasons.items()
        for override in overrides
        if override.lstrip("+~").startswith((f"{key}=", f"{key}."))
    }
    rest = [override for override in overrides if override not in problems]
    try:
        check_command_line(rest)
    except ValueError as error:
        problems |= {line: line.removeprefix("- ") for line in str(error).splitlines()}
    if problems:
        raise ValueError(schemas.join_problems(list(problems.values())))
    return compose(build_loader(), [quote_text(override) for override in rest])


def explain_overrides(overrides: list[str], config_dir: str | None) -> str:
    """What keeps overrides from composing, one problem a line; empty: Hydra's own alone."""
    try:
        check_command_line(overrides, config_dir=config_dir)
    except ValueError as error:
        return str(error)
    return ""


def read_axes(loader: ConfigLoaderImpl, overrides: list[str]) -> list[list[str]]:
    """The overrides of a sweep, each as the list of its single values."""
    try:
        cfg = loader.load_configuration("train", named_sweep(overrides), RunMode.MULTIRUN)
        sweeper = OmegaConf.to_container(cfg.hydra.sweeper, resolve=True)
        parsed = OverridesParser.create().parse_overrides(overrides)
    except (HydraException, OmegaConfBaseException):
        return [[override] for override in overrides]  # reported as those of a single job
    assert isinstance(sweeper, dict)
    params = sweeper["params"] or {}
    given = {override.key_or_group for override in parsed}
    extra = [f"{key}={value}" for key, value in params.items() if key not in given]
    parsed = OverridesParser.create().parse_overrides(extra) + parsed
    return [values for override in parsed if (values := override_values(override))]


def plan_jobs(axes: list[list[str]]) -> list[list[str]]:
    """The jobs to check, each as its overrides: all, or of a large grid each value once."""
    if math.prod(len(values) for values in axes) <= MOST_COMBINATIONS_CHECKED:
        return [list(job) for job in itertools.product(*axes)]
    first = [values[0] for values in axes]
    return [
        [*first[:index], value, *first[index + 1 :]]
        for index, values in enumerate(axes)
        for value in (values if len(values) > 1 else [])
    ]


def named_sweep(overrides: list[str]) -> list[str]:
    """The overrides that can bring `hydra.sweeper.params` along."""
    return [override for override in overrides if override.startswith(("sweep=", "experiment="))]


def override_values(override: Override) -> list[str]:
    """One override as the overrides of its values; empty for a continuous interval."""
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if override.is_interval_sweep():
        return []
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def check_job(loader: ConfigLoaderImpl, overrides: list[str]) -> None:
    """Compose and check one job.

    Raises:
        ValueError: with every problem, one a line; `Impossible` where it composes.
    """
    odd = [each for each in overrides if each.startswith(("+", "~", "=")) or "=" not in each]
    cfg = compose(loader, []) if odd else DictConfig({})
    strange = {
        each: problem
        for each in odd
        if (problem := shape_problem(loader, each) or sign_problem(cfg, each))
    }
    problems = list(strange.values())
    rest = [override for override in overrides if override not in strange]
    try:
        schemas.parse(compose(loader, rest))
    except schemas.Impossible as error:
        if not problems:
            raise
        problems += [line.removeprefix("- ") for line in str(error).splitlines()]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        problems += explain(loader, rest) or [reason(error)]
    if problems:
        raise ValueError(schemas.join_problems(problems))
