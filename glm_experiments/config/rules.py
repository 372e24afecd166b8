"""What rules of a config are made of: each returns its problems, with what to type."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Impossible(ValueError):  # noqa: N818
    """What was typed makes a config, and the config's rules say that it can't be run."""


def check(problems: list[str], holds: bool, message: str) -> None:
    """Append `message` to `problems` unless `holds`."""
    if not holds:
        problems.append(message)


def positive(section: str, values: dict[str, float | None]) -> list[str]:
    """One problem for every value that is given and not a number above zero."""
    return [
        f"{section}.{key} must be {'finite' if value > 0 else 'positive'}, got {value}; "
        f"type e.g. {section}.{key}=1"
        for key, value in values.items()
        if value is not None and not 0 < value < math.inf
    ]


def at_most(
    section: str, values: dict[str, float | None], limit: int, *, because: str
) -> list[str]:
    """One problem for every value that is given and above `limit`; because: why there is one."""
    return [
        f"{section}.{key} must be at most {limit}, got {value}: {because}; "
        f"type e.g. {section}.{key}={limit}"
        for key, value in values.items()
        if value is not None and value > limit
    ]


def within(section: str, values: dict[str, float], low: float, high: float) -> list[str]:
    """One problem for every value outside low <= value < high."""
    return [
        f"{section}.{key} must be at least {low} and below {high}, got {value}; "
        f"type e.g. {section}.{key}={low}"
        for key, value in values.items()
        if not low <= value < high
    ]


def join_problems(problems: Iterable[str]) -> str:
    """One report of several problems."""
    return "\n".join(f"- {problem}" for problem in problems)
