"""What a tracker raises that is at fault itself. Knows no tracker by name, nor its insides."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

Faults = Callable[[], tuple[type[Exception], ...]]
"""Asked for only once something was raised: a package defines some errors as late as that."""

# A name that the package no longer has raises one of the last two.
COMMON = (OSError, RuntimeError, ValueError, TypeError, sqlite3.Error, ImportError, AttributeError)


def faults_of(package: str | None) -> Faults:
    """The faults of the tracker in `package`: what any tracker may raise, and every error that the
    package defines. wandb 0.31 lets some of its insides through when its service dies or refuses,
    which have nothing in common but where they come from."""

    def find() -> tuple[type[Exception], ...]:
        own = {each for each in errors_under(Exception) if origin(each) == package}
        return (*COMMON, *own)

    return find


def errors_under(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Every kind of `kind` that is defined by now."""
    for each in kind.__subclasses__():
        yield each
        yield from errors_under(each)


def origin(kind: type[Exception]) -> str:
    """The package that defines an error."""
    return kind.__module__.partition(".")[0]
