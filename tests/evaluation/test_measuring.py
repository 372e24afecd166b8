"""An evaluation before and after learning, its loss, its files and its table."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from transformers import GlmForCausalLM

from glm_experiments.config import EvaluationConfig, PromptFormat
from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Message
from glm_experiments.data.encoding import Question, ValidationSet
from glm_experiments.data.prompts import encode_prompt
from glm_experiments.evaluation import Evaluation, evaluate, measure_loss, measuring
from glm_experiments.evaluation.report import render_comparison, write_predictions
from glm_experiments.models.architectures.loss import apply_label_only_loss

from .tiny import build_model, build_tokenizer, collate

FORM = PromptFormat.alpaca
ROWS = [
    ("1+1", "2", "sum"),
    ("2+3", "5", "sum"),
    ("ab twice", "abab", "text"),
    ("hi", "hello", "text"),
]
CONFIG = EvaluationConfig(
    before=True,
    after=True,
    batch_size=3,
    max_new_tokens=8,
    num_rows=None,
    metrics=["exact_match", "bleu4", "perplexity"],
)
tokenizer = build_tokenizer()


def build_validation() -> ValidationSet:
    samples, questions = [], []
    for question, answer, kind in ROWS:
        prompt = encode_prompt(tokenizer, [Message("user", question)], prompt_format=FORM)
        answer_ids = encode_answer(tokenizer, answer, prompt_format=FORM)
        labels = [-100] * len(prompt) + answer_ids
        samples.append({"input_ids": prompt + answer_ids, "labels": labels})
        questions.append(Question(prompt, question, answer, kind))
    return ValidationSet(samples, questions)


VALIDATION = build_validation()


def run(model: GlmForCausalLM, config: EvaluationConfig = CONFIG) -> Evaluation:
    return evaluate(
        model,
        tokenizer,
        VALIDATION,
        config=config,
        prompt_format=FORM,
        collate=collate,
    )


@pytest.fixture(scope="module")
def learned() -> GlmForCausalLM:
    model = build_model()
    batch = collate(VALIDATION.samples)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_an_evaluation_shows_what_was_learned(learned: GlmForCausalLM, tmp_path: Path) -> None:
    before, after = run(build_model()), run(learned)
    assert after.answers == [answer for _, answer, _ in ROWS]
    assert before.metrics["exact_match"] == 0
    assert after.metrics["exact_match"] == 100
    assert before.metrics["perplexity"] > 30
    assert 1 < after.metrics["perplexity"] < 1.2
    assert set(after.metrics) == {"exact_match", "bleu4", "perplexity"}
    assert list(after.per_kind) == ["sum", "text"]
    assert after.per_kind["text"]["bleu4"] == 100
    assert after.per_kind["sum"] == {"exact_match": 100, "bleu4": pytest.approx(35.355, abs=1e-3)}

    file = tmp_path / "predictions.jsonl"
    write_predictions(
        file, {"validation": VALIDATION}, {"validation": before}, {"validation": after}
    )
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert rows[2] == {
        "set": "validation",
        "kind": "text",
        "question": "ab twice",
        "reference": "abab",
        "answer_before": before.answers[2],
        "answer_after": "abab",
    }
    assert len(rows) == 4


def test_only_as_many_questions_as_asked_for_are_answered(
    learned: GlmForCausalLM, tmp_path: Path
) -> None:
    config = EvaluationConfig(
        before=False,
        after=True,
        batch_size=3,
        max_new_tokens=8,
        num_rows=2,
        metrics=["exact_match"],
    )
    after = run(learned, config)
    assert after.answers == ["2", "5"]
    assert after.metrics == {"exact_match": 100}
    file = tmp_path / "predictions.jsonl"
    write_predictions(file, {"validation": VALIDATION}, {}, {"validation": after})
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(row["answer_before"], row["answer_after"]) for row in rows] == [
        (None, "2"),
        (None, "5"),
    ]


def test_plain_text_has_a_perplexity_only(learned: GlmForCausalLM) -> None:
    text = ValidationSet(VALIDATION.samples, [])
    result = evaluate(learned, tokenizer, text, config=CONFIG, prompt_format=FORM, collate=collate)
    assert set(result.metrics) == {"perplexity"}
    assert result.answers == []
    assert result.per_kind == {}


@pytest.mark.parametrize("is_label_only", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_every_token_counts_the_same_in_uneven_batches(
    batch_size: int, is_label_only: bool
) -> None:
    model = build_model().train()
    losses = []
    for sample in VALIDATION.samples:
        with torch.no_grad():
            logits = model.eval()(torch.tensor([sample["input_ids"]])).logits[0]
        model.train()
        for place, label in enumerate(sample["labels"][1:]):
            if label != -100:
                losses.append(-float(logits[place].log_softmax(-1)[label]))
    if is_label_only:
        apply_label_only_loss(model)
    loss = measure_loss(model, samples=VALIDATION.samples, collate=collate, batch_size=batch_size)
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert model.training


def test_a_set_without_labels_has_no_loss() -> None:
    samples = [{"input_ids": [3, 4], "labels": [-100, -100]}]
    assert math.isnan(measure_loss(build_model(), samples=samples, collate=collate, batch_size=2))


def test_the_table_shows_sets_kinds_and_change() -> None:
    before = {
        "identity": Evaluation(
            metrics={"exact_match": 0.0, "perplexity": 12.0},
            answers=["x"],
            per_kind={"name": {"exact_match": 0.0}},
        )
    }
    after = {
        "identity": Evaluation(
            metrics={"exact_match": 98.5, "perplexity": 1.25},
            answers=["y"],
            per_kind={"name": {"exact_match": 98.5}},
        ),
        "general": Evaluation(metrics={"exact_match": 90.0}, answers=["z"], per_kind={}),
    }
    assert render_comparison(before, after).splitlines() == [
        "set             metric       before  after  change",
        "--------------------------------------------------",
        "identity        exact_match    0.00  98.50  +98.50",
        "identity        perplexity    12.00   1.25  -10.75",
        "identity: name  exact_match    0.00  98.50  +98.50",
        "general         exact_match       -  90.00       -",
    ]


def test_progress_is_logged_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="glm_experiments")
    monkeypatch.setattr(measuring, "SECONDS_BETWEEN_LINES", -1)
    with measuring.show_progress("identity, before") as progress:
        assert progress is not None
        progress(16, 40)
    assert caplog.messages == ["identity, before: 16 of 40 answers"]
    with measuring.show_progress(None) as progress:
        assert progress is None
