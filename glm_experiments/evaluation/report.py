"""Evaluations before and after tuning side by side: as a table for the log, and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from glm_experiments.evaluation.measuring import Evaluation
from glm_experiments.record.writing import encode_json, write_text
from glm_experiments.tables import render_table

if TYPE_CHECKING:
    from glm_experiments.data.encoding import ValidationSet

KIND_METRIC = "exact_match"
HEADER = ("set", "metric", "before", "after", "change")


def write_predictions(
    file: Path,
    validation_sets: Mapping[str, ValidationSet],
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
) -> None:
    """One JSON line an answered question, sets in order; an answer that wasn't asked for is null.

    Raises:
        RuntimeError: the disk is full.
    """
    lines = []
    for name, validation in validation_sets.items():
        answers = zip_longest(
            *(each[name].answers if name in each else () for each in (before, after))
        )
        for question, (answer_before, answer_after) in zip(
            validation.questions, answers, strict=False
        ):
            row = {
                "set": name,
                "kind": question.kind,
                "question": question.question,
                "reference": question.reference,
                "answer_before": answer_before,
                "answer_after": answer_after,
            }
            lines.append(encode_json(row) + "\n")
    write_text(file, "".join(lines))


def render_comparison(before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]) -> str:
    """A table of all metrics, and of exact matches by kind of question, as aligned text."""
    rows = []
    for name in {**before, **after}:
        pair = [each[name].metrics if name in each else {} for each in (before, after)]
        rows += compare(name, *pair)
        kinds = [each[name].per_kind if name in each else {} for each in (before, after)]
        for kind in {**kinds[0], **kinds[1]}:
            pair = [pick(each.get(kind, {}), KIND_METRIC) for each in kinds]
            rows += compare(f"{name}: {kind}", *pair)
    return render_table(rows, header=HEADER, align="<<>>>")


def compare(
    name: str, before: Mapping[str, float], after: Mapping[str, float]
) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table for one set or kind."""
    rows = []
    for metric in {**before, **after}:
        values = before.get(metric), after.get(metric)
        cells = ["-" if value is None else f"{value:.2f}" for value in values]
        change = "-" if None in values else f"{after[metric] - before[metric]:+.2f}"
        rows.append((name, metric, cells[0], cells[1], change))
    return rows


def pick(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """One metric, if it was measured."""
    return {name: metrics[name]} if name in metrics else {}
