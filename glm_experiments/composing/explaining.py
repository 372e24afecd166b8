"""A bad override -> what was asked, why it can't be, what to type. Knows options, keys and schemas,
and neither sweeps nor saved runs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glm_experiments import config as schemas
from glm_experiments.composing.grammar import describe_unreadable, quote_twice
from glm_experiments.composing.loader import compose
from glm_experiments.nesting import flatten
from glm_experiments.spelling import nearest_word

# Sections whose keys are another library's; `+section.key=value` adds one.
OPEN_SECTIONS = ("training.extra", "model.geometry")


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
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            problems.append(describe_option(loader, override, error))
        else:
            good.append(override)
    cfg = compose(loader, good)
    problems += apply_values(cfg, values)
    try:
        schemas.parse(cfg)
    except OmegaConfBaseException as error:  # of a value that is missing (???)
        problems.append(f"{error.full_key}: {reason(error)}; type {error.full_key}=VALUE")
    except ValueError as error:
        problems += [line.removeprefix("- ") for line in str(error).splitlines()]
    return problems


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
            is_added = override.startswith("+")  # sign_problem knows where that can be
            OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), force_add=is_added)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(describe_value(override, cfg, error))
    return problems


def shape_problem(loader: ConfigLoaderImpl, override: str) -> str | None:
    """Why a word is no override; None: it has the shape of one."""
    key, equals, _ = override.partition("=")
    if (key and equals) or override.startswith("~"):
        return None
    groups = [group for group in loader.list_groups("") if group not in ("hydra", "schema")]
    meant = [f"{group}={key}" for group in groups if key in loader.get_group_options(group)]
    typed = " or ".join(meant) or f"{key or 'KEY'}=VALUE"
    return f"{override!r} is no key=value; type {typed}"


def is_plain(override: str) -> bool:
    """Whether a word has the shape of an override, and no sign that there could be a problem of."""
    key, equals, _ = override.partition("=")
    section = key.lstrip("+").rpartition(".")[0]
    return bool(key and equals) and (key[0] not in "+~" or section in OPEN_SECTIONS)


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
    return f"there is no key {key}; type {suggest(key, known)}"


def describe_option(loader: ConfigLoaderImpl, override: str, error: Exception) -> str:
    """A bad `group=option` as: what was asked, why it can't be, what to type."""
    group, _, option = override.partition("=")
    options = loader.get_group_options(group)
    if option not in options:
        meant = suggest(option, options)
        typed = f"{group}={meant}" if meant in options else meant
        return f"{override} is no option of {group}; type {typed}"
    return f"{override}: {reason(error)}"


def describe_value(override: str, cfg: DictConfig, error: Exception) -> str:
    """A bad `key=value` as: what was asked, why it can't be, what to type."""
    key = override.lstrip("+~").partition("=")[0]
    if isinstance(error, OverrideParseException):
        return describe_unreadable(override)
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
    return f"there is no key {key}; type {suggest(key, [*keys, 'experiment', 'sweep'])}"


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


def suggest(word: str, words: list[str]) -> str:
    """The likeliest meant of `words`, or all of them where none is near and they are few."""
    same_letters = next((each for each in words if each.lower() == word.lower()), None)
    section, _, field = word.rpartition(".")
    inside = {each.rpartition(".")[2]: each for each in words if each.rpartition(".")[0] == section}
    if (
        section and inside and same_letters is None
    ):  # else the section alone would be likeness enough
        near = nearest_word(field, inside, cutoff=0.5)
        return "one of: " + ", ".join(sorted(inside.values())) if near is None else inside[near]
    meant = same_letters or nearest_word(word, words, cutoff=0.5)
    if meant is None and "." in word:  # the right field under the wrong section
        last = word.rpartition(".")[2]
        meant = next((each for each in words if each.rpartition(".")[2] == last), None)
    if meant is not None:
        return meant
    return "one of: " + ", ".join(sorted(each for each in words if "." not in each))
