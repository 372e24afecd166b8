"""Notices that jobs fail for a reason that isn't theirs: a full disk, a dead card. Knows of a
failure its words and its job's settings, nothing of the machine."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from glm_experiments.sweeps.outcome import FINISHED, Outcome

FEWEST = 3
"""Equal failures in a row that stop a device."""

SIZES = ("out_of_memory", "diverged")
"""What more of a setting, or less, brings about."""

Settings = Mapping[str, Any]


class Breaker:
    """Watches the jobs of every place (a device) as they end.

    varying: the keys in which the jobs differ, of which one may explain a failure.
    """

    def __init__(self, varying: set[str]) -> None:
        self.varying = varying
        self._finished: list[Settings] = []
        self._failed: dict[str, list[Settings]] = defaultdict(list)
        self._kind: dict[str, tuple[str, str] | None] = {}

    def notice(self, place: str, outcome: Outcome, settings: Settings) -> str | None:
        """Take in how a job ended; returns why no other should begin there, if so."""
        if outcome.status == FINISHED:
            self._finished.append(settings)
            self._failed[place].clear()
            return None
        kind = (outcome.status, same_words(f"{outcome.error}: {outcome.message}"))
        if kind != self._kind.get(place):
            self._failed[place].clear()
        self._kind[place] = kind
        self._failed[place].append(settings)
        failed = self._failed[place]
        if len(failed) < FEWEST or any(
            self._explains(key, failed, outcome.status) for key in self.varying
        ):
            return None
        return (
            f"{len(failed)} jobs in a row ended on {place} in the same way, which no setting that "
            f"differs between them explains: {outcome.status}: {outcome.message}"
        )

    def _explains(self, key: str, failed: list[Settings], status: str) -> bool:
        """Whether a setting could be why these jobs failed and others didn't."""
        values = [each.get(key) for each in failed]
        good = [each.get(key) for each in self._finished]
        if all(value == values[0] for value in values):
            return values[0] not in good
        if status not in SIZES or not good or key.endswith("seed"):
            return False
        low, high = (numbers_of(each) for each in (values, good))
        return bool(low and high) and (min(low) > max(high) or max(low) < min(high))


def numbers_of(values: list[Any]) -> list[float]:
    """Some values, where all are numbers."""
    is_all = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    return values if is_all else []


def same_words(message: str) -> str:
    """A message without what differs from job to job: numbers, addresses, paths."""
    return re.sub(r"(/[^\s:;,]+)+|0x[0-9a-f]+|\d[\d.,e+-]*", "#", message)
