"""What a generated question is, and which wordings and operands are kept for validation.

A `Kind` is one idea (addition, capitals, ...). Its question is a wording, filled with operands.
Both are divided between the splits by fixed rules that no seed changes:

- operands: a hash of the kind and the operands, order ignored, so that `3 + 5` is in the same
  split as `5 + 3`, in both languages and in every wording;
- wordings: a wording is opening + core + ending. One combination of opening and core in six is
  reserved (`is_reserved_wording`), such that every part is seen in training, but no whole
  reserved wording is.

A validation question has held-out operands *and* a reserved wording; a training question neither.
This module knows no list of kinds and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Literal

Language = Literal["en", "zh"]
Split = Literal["train", "validation"]
Operands = tuple[str | int, ...]

LANGUAGES: tuple[Language, ...] = ("en", "zh")

OPENINGS: Mapping[Language, tuple[str, ...]] = {
    "en": ("", "Please answer: ", "Question: ", "Hello. ", "I have a question: ", "Now: "),
    "zh": ("", "请回答：", "问题：", "你好。", "我想问一下：", "考考你："),
}
ENDINGS: Mapping[Language, tuple[str, ...]] = {
    "en": ("", " Thank you.", " Be brief."),
    "zh": ("", "谢谢。", "请简短回答。"),
}
HELD_OUT_SHARE = 10
"""One combination of operands in so many is kept for validation."""


@dataclass(frozen=True)
class GeneratedQuestion:
    """One question with its only right answer; `kind` names the idea behind it.

    `earlier`: what was asked and answered before it in the same conversation, in this order.
    """

    question: str
    answer: str
    kind: str
    language: Language
    earlier: tuple[GeneratedQuestion, ...] = ()


@dataclass(frozen=True)
class Kind:
    """One idea: how to draw operands, how to ask, and the answer.

    `cores` are `str.format` templates over the fields that `fill` returns beside the answer;
    `share` is the kind's weight among training rows (validation rows are spread evenly).
    """

    name: str
    cores: Mapping[Language, tuple[str, ...]]
    draw: Callable[[Random], Operands]
    fill: Callable[[Operands, Language], tuple[dict[str, str], str]]
    share: int = 1


def is_held_out(kind: str, operands: Operands) -> bool:
    """Whether these operands, in any order, are kept for validation."""
    key = "\x1f".join([kind, *sorted(str(operand) for operand in operands)])
    digest = blake2b(key.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def is_reserved_wording(opening: int, core: int, ending: int) -> bool:
    """Whether the wording made of these parts (indices) is kept for validation."""
    return (opening + core + 2 * ending) % len(OPENINGS["en"]) == 5


def build_wordings(cores: tuple[str, ...], *, language: Language, split: Split) -> list[str]:
    """All wordings of one split: opening + core + ending, still with the core's fields."""
    return [
        opening + core + ending
        for opening_index, opening in enumerate(OPENINGS[language])
        for core_index, core in enumerate(cores)
        for ending_index, ending in enumerate(ENDINGS[language])
        if is_reserved_wording(opening_index, core_index, ending_index) == (split == "validation")
    ]


def draw_operands(kind: Kind, rng: Random, *, split: Split) -> Operands:
    """Operands of `kind` that belong to `split`."""
    operands = kind.draw(rng)
    while is_held_out(kind.name, operands) != (split == "validation"):
        operands = kind.draw(rng)
    return operands


def word_question(
    kind: Kind, operands: Operands, rng: Random, *, language: Language, split: Split
) -> GeneratedQuestion:
    """The question of `kind` about these operands, in a wording of `split`."""
    wording = rng.choice(build_wordings(kind.cores[language], language=language, split=split))
    fields, answer = kind.fill(operands, language)
    return GeneratedQuestion(wording.format(**fields), answer, kind.name, language)


def draw_question(
    kind: Kind, rng: Random, *, language: Language, split: Split
) -> GeneratedQuestion:
    """One question of `kind` whose operands and wording both belong to `split`."""
    operands = draw_operands(kind, rng, split=split)
    return word_question(kind, operands, rng, language=language, split=split)
