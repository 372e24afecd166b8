"""Rows that can't be used: what each says of itself, where they are kept, when they stop a run.

Knows neither file formats nor tokens.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glm_experiments.config import OnBadRow

NUM_SHOWN = 3
"""Reasons of which a message quotes a row; all rows stand in the file."""


class BadRow(ValueError):  # noqa: N818
    """One row can't be used. `reason` is what is counted, `detail` what was found there."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """A bad row: where it stands, its `reason` in a few words, and the whole `message`."""

    file: str
    line: int
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class ReadReport:
    """How many rows were read, which of them were rejected, and where those are written down."""

    num_rows: int
    rejections: tuple[Rejection, ...]
    rejected_file: Path

    def count_dropped(self) -> dict[str, int]:
        """Number of rejected rows by reason, the commonest first."""
        return dict(Counter(rejection.reason for rejection in self.rejections).most_common())

    def describe(self) -> str:
        """The reasons with their numbers, a row of each of the commonest, and where all stand."""
        counts = self.count_dropped()
        firsts = {rejection.reason: rejection for rejection in reversed(self.rejections)}
        return "\n  ".join(
            [
                ", ".join(f"{count} x {reason}" for reason, count in counts.items()),
                *(str(firsts[reason]) for reason in list(counts)[:NUM_SHOWN]),
                f"all of them: {self.rejected_file}",
            ]
        )


def check_rejections(
    report: ReadReport,
    *,
    bad_share: float,
    on_bad_row: OnBadRow,
    max_bad_share: float,
    advice: str = "",
) -> None:
    """Write the rejected rows down, and stop where they are too many.

    Args:
        bad_share: share of the rows that was rejected.
        advice: what else would make the rows usable, shown with the error.

    Raises:
        ValueError: a bad row under on_bad_row=error, or more than `max_bad_share` of all rows.
    """
    write_rejections(report.rejected_file, report.rejections)
    if not report.rejections:
        return
    if on_bad_row is OnBadRow.error:
        raise ValueError(
            f"{report.rejections[0]}; repair the row{advice}, or type data.on_bad_row=skip to go "
            "on without bad rows"
        )
    if bad_share > max_bad_share + 1e-9:  # the share was computed in floats
        enough = min(1.0, math.ceil(bad_share * 1000) / 1000)
        raise ValueError(
            f"{bad_share:.1%} of the rows can't be used, more than data.max_bad_share="
            f"{max_bad_share:g} allows: {report.describe()}\n"
            f"Repair them{advice}"
            + (f", or type data.max_bad_share={enough:g}" if enough < 1 else "")
        )


def write_rejections(file: Path, rejections: Sequence[Rejection]) -> None:
    """One JSON line a rejected row: file, line, reason. Replaces the file; none where none is."""
    if not rejections:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8", errors="backslashreplace") as out:
        for row in rejections:
            entry = {"file": row.file, "line": row.line, "reason": row.message}
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    partial.replace(file)
