"""Nested keys as flat ones, as a user types them (`tuner.r`) or a tracker shows them (`a/b`)."""

from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[Any, Any], *, separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}}` as `{a: {b: 1}, a.b: 1}`: every section before what is in it, then its values.

    prefix: what the keys of the outermost section begin with.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            flat |= flatten(value, separator=separator, prefix=f"{prefix}{key}{separator}")
    return flat


def flatten_values(tree: Mapping[Any, Any], *, separator: str = ".") -> dict[str, Any]:
    """`{a: {b: 1}}` as `{a.b: 1}`: what is no section itself."""
    flat = flatten(tree, separator=separator)
    return {key: value for key, value in flat.items() if not isinstance(value, Mapping)}
