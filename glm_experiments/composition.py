"""Checks a command line before anything slow: composes every job it asks for and reports all that
is wrong with it, each with what to type. Knows `conf/` and the schemas; imports no torch."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from glm_experiments import config as schemas

PACKAGE_DIR = Path(__file__).resolve().parent
# A wheel carries conf/ inside the package; a checkout has it beside the package.
CONF_DIR = next(
    path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir()
)
# Composing takes about 50 ms a job: of a larger grid each value is checked, not each combination.
MOST_COMBINATIONS_CHECKED = 16
# Where a path begins: the value itself, one of several, a quoted one.
HOME = re.compile(r"(?:^|(?<=[\[,'\"]))~(?=/|$)")
# Sections whose keys are another library's; `+section.key=value` adds one.
OPEN_SECTIONS = ("training.extra", "model.geometry")


def build_loader(config_dir: str | None = None) -> ConfigLoaderImpl:
    """A loader over `conf/`, and before it the user's own `--config-dir`.

    Raises:
        ValueError: where `config_dir` is no folder.
    """
    schemas.register_schemas()
    search_path = create_config_search_path(str(CONF_DIR))
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise ValueError(f"--config-dir {config_dir}: there is no such folder")
        search_path.prepend(
            provider="command-line",
            path=f"file://{folder}",
            anchor=SearchPathQuery(provider="schema"),
        )
    return ConfigLoaderImpl(config_search_path=search_path)


def compose(loader: ConfigLoaderImpl, overrides: list[str]) -> DictConfig:
    """The config of one job, without Hydra's own section."""
    cfg = loader.load_configuration("train", overrides, RunMode.RUN)
    with open_dict(cfg):
        cfg.pop("hydra")
    return cfg


def recompose(saved: Any, overrides: list[str]) -> DictConfig:
    """A saved config with overrides: `group=option` exchanges a whole section.

    Raises:
        ValueError: with every bad override, one a line.
    """
    loader = build_loader()
    overrides = [quote_text(override) for override in overrides]
    sections = set(loader.list_groups("")) & set(saved)
    options = [each for each in overrides if each.partition("=")[0] in sections]
    values = [each for each in overrides if each not in options]
    problems: list[str] = []
    for override in [each for each in values if each.startswith(("experiment=", "sweep="))]:
        problems.append(f"{override} is for glm-train; type what is to differ from the run")
        values.remove(override)
    for override in options:
        try:
            section = override.partition("=")[0]
            saved[section] = compose(loader, [override])[section]
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(describe_option(loader, override, error))
    # The sections' schemas, by the names that the options carry, type what a user may now change.
    typed = OmegaConf.structured(schemas.Config)
    for section in schemas.SCHEMAS:
        kind = type_of(section, saved[section])
        typed[section] = OmegaConf.structured(kind)
    cfg = OmegaConf.merge(typed, saved)
    assert isinstance(cfg, DictConfig)
    problems += apply_values(cfg, values)
    if problems:
        raise ValueError(schemas.join_problems(problems))
    return cfg


def type_of(section: str, cfg: DictConfig) -> type:
    """The schema whose fields are exactly those of a section."""
    keys = set(cfg)
    for schema in schemas.SCHEMAS[section].values():
        if {each.name for each in fields(schema)} == keys:
            return schema
    raise ValueError(f"the saved {section} ({cfg.get('name')}) is of another version of this tool")


def apply_values(cfg: DictConfig, overrides: list[str]) -> list[str]:
    """Set `key=value` overrides on a composed config; returns what is wrong with the others."""
    problems = []
    for override in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([override])
            if parsed.is_sweep_override():
                problem = f"{override}: several values make a sweep; type -m before them"
                is_text = isinstance(OmegaConf.select(cfg, parsed.key_or_group), str)
                problems.append(problem + f", or {quote_twice(override)}" * is_text)
                continue
            OmegaConf.update(cfg, parsed.key_or_group, parsed.value())
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(describe_value(override, cfg, error))
    return problems


def quote_text(override: str) -> str:
    """An override as Hydra's grammar wants it: letters beyond ASCII quoted, `~/` as the home.

    A shell takes `key=~/file` as it is, and Hydra can't read it.
    """
    key, equals, value = override.partition("=")
    value = HOME.sub(lambda _: str(Path.home()), value)
    override = f"{key}{equals}{value}"
    if value.isascii() or "'" in value or '"' in value:
        return override
    # What structures a list, a dict or a sweep stays outside of the quotes.
    quoted = re.sub(r"[^][,{}():]*[^\x00-\x7f][^][,{}():]*", r"'\g<0>'", value)
    return f"{key}{equals}{quoted}"


def quote_twice(override: str) -> str:
    """`key=text` as a shell's word whose text Hydra takes as it is, whatever its characters."""
    key, _, text = override.partition("=")
    escaped = re.sub(r"'([^']*)'", r"\1", text).replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')


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
    problems: dict[str, None] = {}  # in order, each once
    composes = True
    for override in overrides:
        if override.startswith("hydra.") and (problem := grammar_problem(override)) is not None:
            problems[problem], composes = None, False
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


def grammar_problem(override: str) -> str | None:
    """Why Hydra can't read an override at all; None: it can."""
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return f"{override} can't be read as key=value; if it is text, type {quote_twice(override)}"
    return None


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
    except (HydraException, OmegaConfBaseException) as error:
        problems += explain(loader, rest) or [reason(error)]
    if problems:
        raise ValueError(schemas.join_problems(problems))


def shape_problem(loader: ConfigLoaderImpl, override: str) -> str | None:
    """Why a word is no override; None: it has the shape of one."""
    key, equals, _ = override.partition("=")
    if (key and equals) or override.startswith("~"):
        return None
    groups = [group for group in loader.list_groups("") if group not in ("hydra", "schema")]
    meant = [f"{group}={key}" for group in groups if key in loader.get_group_options(group)]
    typed = " or ".join(meant) or f"{key or 'KEY'}=VALUE"
    return f"{override!r} is no key=value; type {typed}"


def sign_problem(cfg: DictConfig, override: str) -> str | None:
    """Why a key can't be added (`+`) or left out (`~`); None: it can, or has no sign."""
    key = override.lstrip("+~").partition("=")[0]
    section = key.rpartition(".")[0]
    if override.startswith("~") and section not in OPEN_SECTIONS:
        return f"{override}: a run needs every key; type {key}=... to change it"
    if not override.startswith("+") or section in OPEN_SECTIONS:
        return None
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    known = [*flatten(tree), "experiment", "sweep"]
    if override.startswith("++") and key in known:
        return None
    if key in known or owners_of(key):
        return f"{override}: {key} is there already; type {override.lstrip('+')}"
    return f"there is no key {key}; type {nearest(key, known)}"


def explain(loader: ConfigLoaderImpl, overrides: list[str]) -> list[str]:
    """Hydra stops at the first bad override: try them one by one and describe each bad one.

    Options decide which keys there are, so they come first; values are then tried on the composed
    config, which costs no further composition.
    """
    groups = set(loader.list_groups(""))
    problems: list[str] = []
    options: list[str] = []
    values: list[str] = []
    for override in overrides:
        (options if override.partition("=")[0] in groups else values).append(override)
    good: list[str] = []
    for override in options:
        try:
            compose(loader, [*good, override])
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(describe_option(loader, override, error))
        else:
            good.append(override)
    cfg = compose(loader, good)
    problems += apply_values(cfg, values)
    try:
        schemas.parse(cfg)
    except ValueError as error:
        problems += [line.removeprefix("- ") for line in str(error).splitlines()]
    return problems


def describe_option(loader: ConfigLoaderImpl, override: str, error: Exception) -> str:
    """A bad `group=option` as: what was asked, why it can't be, what to type."""
    group, _, option = override.partition("=")
    options = loader.get_group_options(group)
    if option not in options:
        meant = nearest(option, options)
        typed = f"{group}={meant}" if meant in options else meant
        return f"{override} is no option of {group}; type {typed}"
    return f"{override}: {reason(error)}"


def describe_value(override: str, cfg: DictConfig, error: Exception) -> str:
    """A bad `key=value` as: what was asked, why it can't be, what to type."""
    key = override.lstrip("+~").partition("=")[0]
    if isinstance(error, OverrideParseException):
        return f"{override} can't be read as key=value; if it is text, type {quote_twice(override)}"
    known = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(known, dict)
    keys = flatten(known)
    for section in OPEN_SECTIONS:
        if key == section or key.startswith(f"{section}."):
            return f"{override}: type +{section}.KEY=VALUE to add a key"
    if key in keys:
        return f"{override}: {reason(error)}; type e.g. {key}={spell(keys[key])}"
    if owners := owners_of(key):
        section, _, field = key.partition(".")
        return (
            f"{key}: {section}={cfg[section].name} has no {field}; "
            f"type {' or '.join(f'{section}={owner}' for owner in owners)} to use it"
        )
    return f"there is no key {key}; type {nearest(key, [*keys, 'experiment', 'sweep'])}"


def spell(value: Any) -> str:
    """A value of a config as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(map(spell, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def owners_of(key: str) -> list[str]:
    """Options of the key's group whose schema has its field."""
    group, _, field = key.partition(".")
    return [
        name
        for name, schema in schemas.SCHEMAS.get(group, {}).items()
        if field in {each.name for each in fields(schema)}
    ]


def reason(error: Exception) -> str:
    """The innermost message of a composition error, on one line."""
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else None
    first, *others = str(cause or error).strip().splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def flatten(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, sections included."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
    return flat


def nearest(word: str, words: list[str]) -> str:
    """The likeliest meant of `words`, or all of them where none is near and they are few."""
    matches = [each for each in words if each.lower() == word.lower()][:1]
    matches = matches or difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if not matches and "." in word:  # the right field under the wrong section
        last = word.rpartition(".")[2]
        matches = [each for each in words if each.rpartition(".")[2] == last][:1]
    if matches:
        return matches[0]
    return "one of: " + ", ".join(sorted(each for each in words if "." not in each))
