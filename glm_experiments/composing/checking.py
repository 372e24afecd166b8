"""Checks a command line before anything slow: composes every job that it asks for and reports all
that is wrong with it. Knows sweeps, and of a bad override only that it has an explanation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glm_experiments import config as schemas
from glm_experiments.composing.composer import Composer
from glm_experiments.composing.explaining import explain, reason, shape_problem, sign_problem
from glm_experiments.composing.folders import key_of
from glm_experiments.composing.grammar import quote_text, word_problems
from glm_experiments.composing.loader import build_loader

MOST_POINTS_NAMED = 3
"""Of the points of a sweep that have one problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """What a command line varies.

    values: of every override, in order, its single values as overrides; none of a continuous one.
    is_grid: whether each is combined with each; else a sweeper chooses among them.
    """

    values: dict[str, list[str]]
    is_grid: bool

    def swept(self) -> list[str]:
        """The keys that differ between jobs."""
        return [key for key, values in self.values.items() if len(values) != 1]

    def fixed(self) -> list[str]:
        """The keys that are the same in every job."""
        return [key for key, values in self.values.items() if len(values) == 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A command line without problems. jobs: overrides and config of each that was checked."""

    axes: Axes
    jobs: list[tuple[list[str], schemas.Config]]


def check_command_line(
    overrides: list[str], *, config_dir: str | None = None, multirun: bool = False
) -> list[str]:
    """The keys that differ between the jobs of a sweep, once all of `check_jobs` holds."""
    return check_jobs(overrides, config_dir=config_dir, multirun=multirun).axes.swept()


def check_jobs(
    overrides: list[str], *, config_dir: str | None = None, multirun: bool = False
) -> Checked:
    """Compose and check every job that the command line asks for.

    Raises:
        ValueError: with every problem, one a line; `Impossible` where all of it composes.
    """
    loader = build_loader(config_dir)
    overrides = [quote_text(each) for each in overrides]
    problems = word_problems(overrides)
    composes = not problems
    axes = read_axes(loader, overrides) if multirun else single_job(overrides)
    swept = set(axes.swept())
    points = plan_jobs(axes)
    composer = Composer(loader)
    found: dict[str, list[list[str]]] = {}  # in order, each once, with the points that have it
    explained: dict[str, list[str]] = {}
    jobs = []
    for point in points:
        try:
            jobs.append((point, check_job(composer, point, explained=explained)))
        except ValueError as error:
            composes = composes and isinstance(error, schemas.Impossible)
            for line in str(error).splitlines():
                varied = [each for each in point if key_of(each) in swept]
                found.setdefault(line.removeprefix("- "), []).append(varied)
    problems += [say_where(problem, where, points=points) for problem, where in found.items()]
    if problems:
        kind = schemas.Impossible if composes else ValueError
        raise kind(schemas.join_problems(dict.fromkeys(problems)))
    return Checked(axes=axes, jobs=jobs)


def say_where(problem: str, where: list[list[str]], *, points: list[list[str]]) -> str:
    """A problem with the points of a sweep that have it, where others haven't.

    where: of those points the overrides that vary.
    """
    if len(where) == len(points):
        return problem
    common = [each for each in where[0] if all(each in other for other in where)]
    if sum(all(each in point for each in common) for point in points) == len(where):
        if all(each in problem for each in common):
            return problem
        return f"{problem} (in {' '.join(common)})"
    named = ", ".join(" ".join(each) for each in where[:MOST_POINTS_NAMED])
    more = len(where) - MOST_POINTS_NAMED
    return f"{problem} (in {named}{f' and {more} more' if more > 0 else ''})"


def explain_overrides(overrides: list[str], config_dir: str | None) -> str:
    """What keeps overrides from composing, one problem a line; empty: Hydra's own alone."""
    try:
        check_command_line(overrides, config_dir=config_dir)
    except ValueError as error:
        return str(error)
    return ""


def single_job(overrides: list[str]) -> Axes:
    """A command line that asks for one job."""
    task = [each for each in overrides if not each.startswith("hydra.")]
    return Axes(values={each: [each] for each in task}, is_grid=True)


def read_axes(loader: ConfigLoaderImpl, overrides: list[str]) -> Axes:
    """What a sweep varies: on the command line, or in a named grid."""
    task = [each for each in overrides if not each.startswith("hydra.")]
    try:
        cfg = loader.load_configuration("train", about_sweeps(overrides), RunMode.MULTIRUN)
        sweeper = OmegaConf.to_container(cfg.hydra.sweeper, resolve=True)
        parsed = OverridesParser.create().parse_overrides(task)
    except (HydraException, OmegaConfBaseException):
        return single_job(overrides)  # reported as the problems of a single job
    assert isinstance(sweeper, dict)
    params = sweeper.get("params") or {}
    given = {override.key_or_group for override in parsed}
    extra = [f"{key}={value}" for key, value in params.items() if key not in given]
    parsed = OverridesParser.create().parse_overrides(extra) + parsed
    return Axes(
        values={override.key_or_group: override_values(override) for override in parsed},
        is_grid="max_batch_size" in sweeper,  # of Hydra's own grid alone
    )


def plan_jobs(axes: Axes) -> list[list[str]]:
    """The jobs to check, each as its overrides: all of a grid; of what a sweeper chooses from, each
    value once."""
    values = [each for each in axes.values.values() if each]
    if axes.is_grid:
        return [list(job) for job in itertools.product(*values)]
    first = [each[0] for each in values]
    return [first] + [
        [*first[:index], value, *first[index + 1 :]]
        for index, each in enumerate(values)
        for value in each[1:]
    ]


def about_sweeps(overrides: list[str]) -> list[str]:
    """The overrides that can bring `hydra.sweeper.params` along."""
    named = ("sweep=", "experiment=", "hydra/sweeper=", "hydra.sweeper.")
    return [override for override in overrides if override.startswith(named)]


def override_values(override: Override) -> list[str]:
    """One override as the overrides of its values; empty for a continuous interval."""
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if override.is_interval_sweep():
        return []
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def check_job(
    composer: Composer, overrides: list[str], *, explained: dict[str, list[str]] | None = None
) -> schemas.Config:
    """Compose and check one job.

    explained: what is known of errors, for jobs that have the same one.

    Raises:
        ValueError: with every problem, one a line; `Impossible` where it composes.
    """
    explained = {} if explained is None else explained
    loader = composer.loader
    odd = [each for each in overrides if each.startswith(("+", "~", "=")) or "=" not in each]
    cfg = composer.compose([]) if odd else DictConfig({})
    strange = {
        each: problem
        for each in odd
        if (problem := shape_problem(loader, each) or sign_problem(cfg, each))
    }
    problems = list(strange.values())
    rest = [override for override in overrides if override not in strange]
    try:
        config = schemas.parse(composer.compose(rest))
    except schemas.Impossible as error:
        if not problems:
            raise
        problems += [line.removeprefix("- ") for line in str(error).splitlines()]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        cause = reason(error)
        if cause not in explained:
            explained[cause] = explain(composer, rest) or [cause]
        problems += explained[cause]
    if problems:
        raise ValueError(schemas.join_problems(problems))
    return config
