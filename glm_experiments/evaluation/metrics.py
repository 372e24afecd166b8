"""Scores of an answer against its reference: pure functions of texts, all from 0 to 100.

BLEU-4 and ROUGE follow ChatGLM-6B's published evaluation (ptuning/main.py), to the quirks of the
libraries that it used, so that scores compare with published ones.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

DEFINITIONS = {
    "exact_match": "percent of answers equal to the reference, outer whitespace aside",
    "bleu4": "mean sentence BLEU-4 over characters, smoothing method 3 (nltk), times 100",
    "rouge_1": "mean ROUGE-1 F over jieba words (rouge_chinese), times 100",
    "rouge_2": "mean ROUGE-2 F over jieba words (rouge_chinese), times 100",
    "rouge_l": "mean ROUGE-L F over jieba words (rouge_chinese), times 100",
    "loss": "mean loss over all trained tokens of the set",
    "perplexity": "exp of the mean loss over all trained tokens of the set",
}
SENTENCE_END = re.compile(r"([。！？?]|\.{6})(?=[^”’])")


def score_answers(
    answers: Sequence[str], references: Sequence[str], *, metrics: Sequence[str]
) -> dict[str, float]:
    """Mean scores of all answers; of `metrics` those that compare texts. Empty without answers."""
    scorers: dict[str, Callable[[str, str], dict[str, float]]] = {
        "exact_match": lambda answer, reference: {"exact_match": exact_match(answer, reference)},
        "bleu4": lambda answer, reference: {"bleu4": bleu4(answer, reference)},
        "rouge": rouge,
    }
    totals: Counter[str] = Counter()
    for answer, reference in zip(answers, references, strict=True):
        for metric in metrics:
            if metric in scorers:
                totals.update(scorers[metric](answer, reference))
    return {name: total / len(answers) for name, total in totals.items()}


def exact_match(answer: str, reference: str) -> float:
    """100 where the texts are equal apart from whitespace around them, else 0."""
    return 100.0 * (answer.strip() == reference.strip())


def bleu4(answer: str, reference: str) -> float:
    """BLEU-4 over characters (Papineni et al. 2002), uniform weights.

    Orders without a match count 1 / (2^k * n-grams), k = 1, 2, ...: method 3 of Chen and Cherry
    2014. An answer that shares no character scores 0; one of under four characters stays below
    100 even where it is right.
    """
    log_precision = 0.0
    num_smoothed = 0
    for order in range(1, 5):
        found, wanted = (
            Counter(text[i : i + order] for i in range(len(text) - order + 1))
            for text in (answer, reference)
        )
        matches = (found & wanted).total()
        total = max(1, found.total())
        if matches == 0:
            if order == 1:
                return 0.0
            num_smoothed += 1
        precision = matches / total if matches else 1 / (2**num_smoothed * total)
        log_precision += math.log(precision) / 4
    brevity = min(0.0, 1 - len(reference) / len(answer))
    return 100 * math.exp(brevity + log_precision)


def rouge(answer: str, reference: str) -> dict[str, float]:
    """ROUGE-1 and ROUGE-2 over sets of n-grams, ROUGE-L over the whole text (Lin 2004)."""
    found, wanted = cut_words(answer), cut_words(reference)
    scores = {}
    for order in (1, 2):
        grams, wanted_grams = (
            set(zip(*(words[i:] for i in range(order)), strict=False)) for words in (found, wanted)
        )
        matches = len(grams & wanted_grams)
        scores[f"rouge_{order}"] = f_score(matches, len(grams), len(wanted_grams))
    matches = longest_common_length(found, wanted)
    return scores | {"rouge_l": f_score(matches, len(found), len(wanted))}


def f_score(num_matches: int, num_found: int, num_wanted: int) -> float:
    """Harmonic mean of precision and recall, from 0 to 100."""
    if num_matches == 0:
        return 0.0
    precision, recall = num_matches / num_found, num_matches / num_wanted
    return 100 * 2 * precision * recall / (precision + recall + 1e-8)


def cut_words(text: str) -> list[str]:
    """jieba's words; an empty line counts as one empty word, as in rouge_chinese."""
    import jieba  # its dictionary takes a second to load

    jieba.setLogLevel(logging.WARNING)
    spaced = " ".join(jieba.cut(text))
    lines = SENTENCE_END.sub("\\1\n", spaced).rstrip().split("\n")
    return [word for line in lines if line for word in " ".join(line.split()).split(" ")]


def longest_common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        matched = row & positions.get(word, 0)
        row = (row + matched | row - matched) & everything
    return len(first) - row.bit_count()
