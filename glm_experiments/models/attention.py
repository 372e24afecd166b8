"""The attention implementations by the library's names, and which of them a model runs."""

from typing import Any

IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")
PREFIX = "prefix_"
"""Begins the names of implementations that put keys before the sequence's."""


def chosen_attention(config: Any) -> str:
    """The implementation that a model of this configuration runs.

    The library (transformers 5.17 to 5.24) has a public way to set it, and none to ask for it.
    """
    chosen: str = config._attn_implementation
    return chosen
