"""Samples token by token for a reader: what is trained and what is masked."""

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from glm_experiments.data.encoding import EncodedSplits
from glm_experiments.data.packing import Item
from glm_experiments.labels import IGNORED

NUM_SHOWN_AT_AN_END = 20
"""Tokens shown at either end of a long stretch; those between are counted."""


def render_samples(encoded: EncodedSplits, tokenizer: Any, *, num_samples: int = 2) -> str:
    """The first training samples, a token a line: its place, its id, its part in training, text."""
    return "\n".join(
        f"training sample {number} of {len(encoded.train)}\n{render_item(item, tokenizer)}"
        for number, item in enumerate(encoded.train[:num_samples], start=1)
    )


def render_item(item: Item, tokenizer: Any) -> str:
    """A table of the item's tokens; the token's text is shown in quotes, as it decodes alone."""
    ids = item["input_ids"]
    columns: list[Sequence[str]] = [
        ["place", *map(str, item.get("position_ids", range(len(ids))))],
        ["id", *map(str, ids)],
        ["part", *("masked" if label == IGNORED else "trained" for label in item["labels"])],
        ["token", *(show_token(index, tokenizer) for index in ids)],
    ]
    widths = [max(map(measure_width, column)) for column in columns]
    lines = [
        "  ".join(
            [
                place.rjust(widths[0]),
                index.rjust(widths[1]),
                part.ljust(widths[2]),
                token,
            ]
        )
        for place, index, part, token in zip(*columns, strict=True)
    ]
    return "\n".join([lines[0], *_shorten(lines[1:], columns[2][1:])])


def show_token(index: int, tokenizer: Any) -> str:
    """A token's text in quotes; the vocabulary's own entry where it is no whole character."""
    text = tokenizer.decode([index])
    entry = tokenizer.convert_ids_to_tokens(index)
    if not text or "\ufffd" in text:
        return str(entry)
    # A first blank is lost in decoding, and carries meaning.
    blank = " " if str(entry).startswith("▁") and not text.startswith(" ") else ""
    return repr(blank + text)


def measure_width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _shorten(lines: Sequence[str], parts: Sequence[str]) -> list[str]:
    shown: list[str] = []
    for part, group in groupby(zip(parts, lines, strict=True), key=lambda pair: pair[0]):
        stretch = [line for _, line in group]
        num_hidden = len(stretch) - 2 * NUM_SHOWN_AT_AN_END
        if num_hidden > 1:
            stretch[NUM_SHOWN_AT_AN_END:-NUM_SHOWN_AT_AN_END] = [
                f"... {num_hidden} more {part} ..."
            ]
        shown += stretch
    return shown
