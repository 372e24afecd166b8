"""What rules of a config are made of: each returns its problems, with what to type."""

from __future__ import annotations

from collections.abc import Iterable


class Impossible(ValueError):  # noqa: N818
    """What was typed makes a config, and the config's rules say that it can't be run."""


def check(problems: list[str], holds: bool, message: str) -> None:
    """Append `message` to `problems` unless `holds`."""
    if not holds:
        problems.append(message)


def positive(section: str, values: dict[str, float | None]) -> list[str]:
    """One problem for every value that is given and not above zero."""
    return [
        f"{section}.{key} must be positive, got {value}; type e.g. {section}.{key}=1"
        for key, value in values.items()
        if value is not None and not value > 0
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
