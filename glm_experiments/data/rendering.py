"""Samples token by token for a reader: what is trained and what is masked."""

from collections.abc import Sequence
from itertools import groupby

from glm_experiments.data.encoding import EncodedSplits
from glm_experiments.data.packing import Item
from glm_experiments.labels import IGNORED
from glm_experiments.tables import render_table
from glm_experiments.tokenizer_protocol import Tokenizer

Line = tuple[str, str, str, str]

NUM_SHOWN_AT_AN_END = 20
"""Tokens shown at either end of a long stretch; those between are counted."""


def render_samples(encoded: EncodedSplits, tokenizer: Tokenizer, *, num_samples: int = 2) -> str:
    """The first training samples, a token a line: its place, its id, its part in training, text."""
    return "\n".join(
        f"training sample {number} of {len(encoded.train)}\n{render_item(item, tokenizer)}"
        for number, item in enumerate(encoded.train[:num_samples], start=1)
    )


def render_item(item: Item, tokenizer: Tokenizer) -> str:
    """A table of the item's tokens; the token's text is shown in quotes, as it decodes alone."""
    ids = item["input_ids"]
    places = item.get("position_ids", range(len(ids)))
    rows = [
        (
            str(place),
            str(index),
            "masked" if label == IGNORED else "trained",
            show_token(index, tokenizer),
        )
        for place, index, label in zip(places, ids, item["labels"], strict=True)
    ]
    return render_table(_shorten(rows), header=("place", "id", "part", "token"), align=">><<")


def show_token(index: int, tokenizer: Tokenizer) -> str:
    """A token's text in quotes; the vocabulary's own entry where it is no whole character."""
    text = str(tokenizer.decode([index]))
    entry = str(tokenizer.convert_ids_to_tokens(index))
    if not text or "\ufffd" in text:
        return entry
    # A first blank is lost in decoding, and carries meaning.
    blank = " " if entry.startswith("▁") and not text.startswith(" ") else ""
    return repr(blank + text)


def _shorten(rows: Sequence[Line]) -> list[Line]:
    shown: list[Line] = []
    for part, group in groupby(rows, key=lambda row: row[2]):
        stretch = list(group)
        num_hidden = len(stretch) - 2 * NUM_SHOWN_AT_AN_END
        if num_hidden > 1:
            stretch[NUM_SHOWN_AT_AN_END:-NUM_SHOWN_AT_AN_END] = [
                ("", "", "", f"... {num_hidden} more {part} ...")
            ]
        shown += stretch
    return shown
