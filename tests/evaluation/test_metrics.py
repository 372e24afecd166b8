"""Scores: by hand, and against the libraries of the published evaluation where they are there."""

from __future__ import annotations

import random

import pytest

from glm_experiments.config import EvaluationConfig
from glm_experiments.evaluation.metrics import (
    DEFINITIONS,
    bleu4,
    cut_words,
    exact_match,
    longest_common_length,
    rouge,
    score_answers,
)

TEXTS = (
    "这款连衣裙采用了经典的A字版型，简约大方，穿着舒适。搭配腰带，显瘦又时尚！",
    "宽松的版型，不挑身材；袖口的荷叶边设计，俏皮可爱。",
    "第一步：准备材料。\n\n第二步：开始……\n第三步？完成。\n",
    "The capital of France is Paris. It has 2.1 million people...... Really?",
    "北京",
    "7",
    "好。”他说。",
    " a  b\n\n c ",
)


def damage(text: str, seed: int) -> str:
    """The text with some characters dropped or repeated elsewhere."""
    rng = random.Random(seed)
    kept = [character for character in text if rng.random() > 0.2]
    for _ in range(len(text) // 5):
        kept.insert(rng.randrange(len(kept) + 1), rng.choice(text))
    return "".join(kept) or text


PAIRS = [(damage(text, seed), text) for seed in range(5) for text in TEXTS] + [
    (first, second) for first in TEXTS for second in TEXTS
]


def test_exact_match_forgives_outer_whitespace_only() -> None:
    assert exact_match(" 北京\n", "北京") == 100
    assert exact_match("北京。", "北京") == 0


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("abcde", "abcde", 100.0),
        # Matches 4/4, 3/3, 2/2, 1/1 of an answer of 4 under a reference of 5: exp(1 - 5/4).
        ("abcd", "abcde", 77.880078),
        # One character alone: 1, then 1/2, 1/4, 1/8 for orders that it has no n-gram of.
        ("7", "7", 35.355339),
        ("xy", "ab", 0.0),
        ("", "ab", 0.0),
        ("", "", 0.0),
        ("ab", "", 0.0),
    ],
)
def test_bleu4_by_hand(answer: str, reference: str, score: float) -> None:
    assert bleu4(answer, reference) == pytest.approx(score, abs=1e-5)


def test_rouge_by_hand() -> None:
    # Words a b c against a c b d: 3 of 3 and 3 of 4; no common pair; longest common a b (or a c).
    scores = rouge("a b c", "a c b d")
    assert cut_words("a b c") == ["a", "b", "c"]
    assert scores["rouge_1"] == pytest.approx(100 * 6 / 7, abs=1e-5)
    assert scores["rouge_2"] == 0
    assert scores["rouge_l"] == pytest.approx(100 * 4 / 7, abs=1e-5)
    assert rouge("", "a") == {"rouge_1": 0, "rouge_2": 0, "rouge_l": 0}
    assert rouge(" \n", "a") == rouge("a", "") == rouge("", "a")


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    rng = random.Random(0)
    for _ in range(50):
        first, second = (rng.choices("abcd", k=rng.randrange(70)) for _ in range(2))
        row = [0] * (len(second) + 1)
        for word in first:
            before, row = row, [0]
            for index, other in enumerate(second):
                longest = max(row[index], before[index + 1])
                row.append(before[index] + 1 if word == other else longest)
        assert longest_common_length(first, second) == row[-1]


def test_bleu4_is_that_of_the_published_evaluation() -> None:
    bleu_score = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu_score.SmoothingFunction().method3
    for answer, reference in PAIRS:
        published = bleu_score.sentence_bleu(
            [list(reference)], list(answer), smoothing_function=smooth
        )
        assert bleu4(answer, reference) == pytest.approx(100 * published, abs=1e-9)


def test_rouge_is_that_of_the_published_evaluation() -> None:
    rouge_chinese = pytest.importorskip("rouge_chinese")
    import jieba

    for answer, reference in PAIRS:
        spaced = [" ".join(jieba.cut(text)) for text in (answer, reference)]
        published = rouge_chinese.Rouge().get_scores(*spaced)[0]
        scores = rouge(answer, reference)
        for name, value in scores.items():
            assert value == pytest.approx(100 * published[name.replace("_", "-")]["f"], abs=1e-9)


def test_scores_are_means_and_named_by_definition() -> None:
    metrics = ["exact_match", "bleu4", "rouge", "perplexity"]
    scores = score_answers(["abcd", ""], ["abcd", "x"], metrics=metrics)
    assert scores["exact_match"] == 50
    assert scores["bleu4"] == pytest.approx(50)
    assert set(scores) | {"loss", "perplexity"} == set(DEFINITIONS)
    assert score_answers(["a"], ["b"], metrics=["exact_match"]) == {"exact_match": 0}
    assert score_answers([], [], metrics=metrics) == {}


def test_the_config_knows_the_same_metrics() -> None:
    config = EvaluationConfig(
        before=True,
        after=True,
        batch_size=1,
        max_new_tokens=1,
        num_rows=None,
        metrics=["exact_match", "bleu4", "rouge", "perplexity"],
    )
    assert config.problems() == []
