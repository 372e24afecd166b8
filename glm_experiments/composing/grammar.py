"""What Hydra's grammar makes of a typed word, and how text is quoted so that it stays as it is.
Knows no key and no config."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

# Where Hydra lets a run and a sweep write.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
# Where a path begins: the value itself, one of several, a quoted one.
HOME = re.compile(r"(?:^|(?<=[\[,'\"]))~(?=/|$)")


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


def quote_value(text: str) -> str:
    """A text as Hydra takes it as it is, whatever its characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def quote_twice(override: str) -> str:
    """`key=text` as a shell's word whose text Hydra takes as it is, whatever its characters."""
    key, _, text = override.partition("=")
    unquoted = re.sub(r"'([^']*)'", r"\1", text)
    return shlex.quote(f"{key}={quote_value(unquoted)}")


def doubled_problems(overrides: Sequence[str]) -> list[str]:
    """One problem for every key that is given several values: one of them would win in silence."""
    given: dict[str, dict[str, None]] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals:
            given.setdefault(key.lstrip("+"), {})[value] = None
    return [
        f"{key} is given more than once ({', '.join(f'{key}={value}' for value in values)}); "
        "type one of them"
        for key, values in given.items()
        if len(values) > 1
    ]


def word_problems(overrides: Sequence[str]) -> list[str]:
    """What is wrong with words by themselves, before anything is composed of them."""
    problems = doubled_problems(overrides)
    for override in overrides:
        if override.startswith("hydra.") and (
            problem := grammar_problem(override) or folder_problem(override)
        ):
            problems.append(problem)
    return problems


def folder_problem(override: str) -> str | None:
    """Why a folder of Hydra's can't be what an override says; None: it can, or it's another key."""
    key, equals, value = override.partition("=")
    if key not in FOLDERS or not equals or value.strip().strip("'\"").strip() not in ("", "null"):
        return None
    return f"{override} names no folder; type {key}=FOLDER, or leave it out"


def grammar_problem(override: str) -> str | None:
    """Why Hydra can't read an override at all; None: it can."""
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return describe_unreadable(override)
    return None


def describe_unreadable(override: str) -> str:
    """An override that Hydra can't read as: what was asked, what to type."""
    return f"{override} can't be read as key=value; if it is text, type {quote_twice(override)}"
