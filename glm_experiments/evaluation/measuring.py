"""What a model scores on a validation set: by its answers, and by its loss."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from glm_experiments.config import EvaluationConfig, PromptFormat
from glm_experiments.data.answers import decode_answer, stop_token_ids
from glm_experiments.data.packing import Item
from glm_experiments.evaluation.generation import Progress, evaluation_mode, generate_answers
from glm_experiments.evaluation.metrics import score_answers
from glm_experiments.labels import IGNORED
from glm_experiments.live import show_bar
from glm_experiments.tokenizer_protocol import Tokenizer

if TYPE_CHECKING:
    from glm_experiments.data.encoding import ValidationSet

log = logging.getLogger(__name__)

Collate = Callable[[list[Item]], dict[str, torch.Tensor]]
SECONDS_BETWEEN_LINES = 30
MOST_TOKENS = 16_384
"""Of one pass that measures, padding included: samples are measured whole, however long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """metrics: by name, see `metrics.DEFINITIONS`. answers: to the set's first questions.
    loss: where it was measured; it is what a perplexity is made of.

    per_kind: metrics of the answers to each kind of question, where the questions have kinds.
    """

    metrics: dict[str, float]
    answers: list[str]
    per_kind: dict[str, dict[str, float]]
    loss: float | None = None

    def figures(self) -> dict[str, float]:
        """All that was measured of the set as a whole, for the record."""
        return self.metrics if self.loss is None else {**self.metrics, "loss": self.loss}


def evaluate(
    model: nn.Module,
    tokenizer: Tokenizer,
    validation: ValidationSet,
    *,
    config: EvaluationConfig,
    prompt_format: PromptFormat,
    collate: Collate,
    description: str | None = None,
    answer: Callable[..., list[list[int]]] = generate_answers,
    measure: Callable[..., float] | None = None,
) -> Evaluation:
    """Answer the set's questions greedily and score the answers; measure perplexity on all samples.

    A set of plain text has no questions and gets a perplexity only.

    Args:
        description: shown beside the progress; None: no progress is shown.
        answer, measure: as `generate_answers` and `measure_loss` (None); several processes share
            the work.
    """
    questions = validation.questions[: config.num_rows]
    answers: list[str] = []
    if questions and any(metric != "perplexity" for metric in config.metrics):
        with show_progress(description) as progress:
            tokens = answer(
                model,
                [question.prompt_ids for question in questions],
                batch_size=config.batch_size,
                max_new_tokens=config.max_new_tokens,
                stop_token_ids=stop_token_ids(tokenizer, prompt_format=prompt_format),
                pad_token_id=tokenizer.pad_token_id,
                progress=progress,
            )
        answers = [decode_answer(tokenizer, ids, prompt_format=prompt_format) for ids in tokens]
    rows: dict[str | None, list[tuple[str, str]]] = defaultdict(list)
    for question, given in zip(questions, answers, strict=False):
        rows[question.kind].append((given, question.reference.strip()))
    metrics = score_rows([row for kind in rows.values() for row in kind], config.metrics)
    loss = None
    if "perplexity" in config.metrics and validation.samples:
        loss = (measure or measure_loss)(
            model, samples=validation.samples, collate=collate, batch_size=config.batch_size
        )
        metrics["perplexity"] = math.exp(min(loss, 700.0))
    per_kind = {kind: score_rows(rows[kind], config.metrics) for kind in rows if kind is not None}
    return Evaluation(metrics=metrics, answers=answers, per_kind=per_kind, loss=loss)


def score_rows(rows: Sequence[tuple[str, str]], metrics: Sequence[str]) -> dict[str, float]:
    """Mean scores over pairs of an answer and its reference."""
    return score_answers([row[0] for row in rows], [row[1] for row in rows], metrics=metrics)


def measure_loss(
    model: nn.Module, *, samples: Sequence[Item], collate: Collate, batch_size: int
) -> float:
    """Mean loss over all labelled next tokens of `samples`: every token counts the same.

    The model divides its summed loss by `num_items_in_batch`. NaN where nothing is labelled.
    """
    device = next(model.parameters()).device
    total, num_labels = 0.0, 0
    with evaluation_mode(model):
        for rows in plan_batches(samples, batch_size=batch_size):
            batch = collate(rows)
            count = int((batch["labels"][:, 1:] != IGNORED).sum())
            if count:
                batch = {name: tensor.to(device) for name, tensor in batch.items()}
                total += float(model(**batch, num_items_in_batch=1).loss)
                num_labels += count
    return total / num_labels if num_labels else math.nan


def plan_batches(samples: Sequence[Item], *, batch_size: int) -> Iterator[list[Item]]:
    """All samples, the longest first, at most `batch_size` and `MOST_TOKENS` at once."""
    order = sorted(range(len(samples)), key=lambda index: -len(samples[index]["input_ids"]))
    start = 0
    while start < len(order):
        first = samples[order[start]]
        num = min(batch_size, max(1, MOST_TOKENS // len(first["input_ids"])))
        yield [samples[index] for index in order[start : start + num]]
        start += num


@contextmanager
def show_progress(description: str | None) -> Iterator[Progress | None]:
    """A bar on a terminal, elsewhere a log line now and then; nothing without a description."""
    if description is None:
        yield None
        return
    with show_bar(description, unit="answers", stays=False) as bar:
        said = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal said
            if bar is not None:
                bar.show(done, total=total)
            if (bar is None or bar.is_logged) and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("%s: %d of %d answers", description, done, total)

        yield show
