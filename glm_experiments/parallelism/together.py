"""Questions and samples split over the processes of a run, what came of them put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from glm_experiments.labels import IGNORED
from glm_experiments.processes.meeting import gather, num_processes, rank

Answer = Callable[..., list[list[int]]]
MeasureLoss = Callable[..., float]


def answer_together(answer: Answer) -> Answer:
    """`answer(model, prompts, ...)` with the prompts split over the processes."""

    def answer_share(model: Any, prompts: Sequence[list[int]], **settings: Any) -> list[list[int]]:
        # Every process has long and short ones.
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        mine = order[rank() :: num_processes()]
        answers = answer(model, [prompts[index] for index in mine], **settings)
        found = dict(itertools.chain(*gather(list(zip(mine, answers, strict=True)))))
        return [found[index] for index in range(len(prompts))]

    return answer_share


def measure_together(measure: MeasureLoss) -> MeasureLoss:
    """`measure(model, samples=..., ...)`, a mean over labels, with the samples split."""

    def measure_share(model: Any, *, samples: Sequence[Any], **settings: Any) -> float:
        order = sorted(range(len(samples)), key=lambda index: -len(samples[index]["input_ids"]))
        mine = [samples[index] for index in order[rank() :: num_processes()]]
        num_labels = sum(label != IGNORED for each in mine for label in each["labels"][1:])
        loss = measure(model, samples=mine, **settings) if num_labels else 0.0
        shares = gather((loss, num_labels))
        total = sum(each[1] for each in shares)
        return sum(loss * count for loss, count in shares) / total if total else math.nan

    return measure_share
