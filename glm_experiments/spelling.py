"""Which known word a mistyped one was likeliest meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_word(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The most alike of `words`; None where none is alike enough.

    cutoff: how alike it must be at least, from 0 (any will do) to 1 (the same). A hint in passing
        keeps the default; where a name must be typed, a doubtful hint is better than none.
    """
    return next(iter(get_close_matches(word, words, n=1, cutoff=cutoff)), None)
