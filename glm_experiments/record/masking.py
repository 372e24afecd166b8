"""Hides secrets in what is kept of a run: told by the names of their keys, and then, wherever they
stand in a text, by their values."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

MASK = "***"

# num_virtual_tokens and pad_token_id are no secrets, hub_token is one.
SECRET = (
    r"(?:^|[^a-z])(?:token|secret|password|passwd|passphrase|credentials?"
    r"|(?:api|access|private|secret)_?key)"
)
SECRET_KEY = re.compile(SECRET + "$", re.IGNORECASE)
SECRET_ENTRY = re.compile(rf"({SECRET}['\"]?\s*:)(?!\s*['\"]?\$\{{)[^,}}]+", re.IGNORECASE)
SECRET_WORD = re.compile(rf"({SECRET}=)(?!['\"]?\$\{{)[^,]+", re.IGNORECASE)
"""In overrides that are joined by commas."""

SHORTEST = 6
"""A shorter value is not looked for in texts: too many words would be hidden."""


def mask_override(override: str) -> str:
    """`key=value` with what is hidden whose key speaks of a secret, also in `key={a: b}`.

    What stays is where a value comes from: `${oc.env:HF_TOKEN}`.
    """
    key, equals, value = override.partition("=")
    if equals and SECRET_KEY.search(key):
        return override if is_reference(value.strip("'\"")) else f"{key}={MASK}"
    return SECRET_ENTRY.sub(rf"\1 {MASK}", override)


def mask_secrets(config: Any) -> Any:
    """A nested config with the values hidden whose keys speak of a secret."""
    if isinstance(config, Mapping):
        return {
            key: MASK if SECRET_KEY.search(str(key)) and is_secret(value) else mask_secrets(value)
            for key, value in config.items()
        }
    return [mask_secrets(each) for each in config] if isinstance(config, list) else config


def is_reference(value: Any) -> bool:
    """Whether a value only says where it comes from."""
    return isinstance(value, str) and value.startswith("${")


def is_secret(value: Any) -> bool:
    """Whether the value of a key that speaks of a secret is one."""
    return value is not None and not is_reference(value)


def find_secrets(config: Any) -> Iterator[str]:
    """The values of a nested, resolved config whose keys speak of a secret, and that are long
    enough to be looked for."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if SECRET_KEY.search(str(key)) and is_secret(value):
                yield from (each for each in texts_of(value) if len(each) >= SHORTEST)
            else:
                yield from find_secrets(value)
    elif isinstance(config, list):
        for each in config:
            yield from find_secrets(each)


def texts_of(value: Any) -> Iterator[str]:
    """All texts and numbers in a nested value, as texts."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)


class Secrets:
    """Values that may stand in no text that is kept."""

    def __init__(self, values: Iterable[str]) -> None:
        longest_first = sorted(set(values), key=len, reverse=True)
        self.is_empty = not longest_first
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def hide(self, text: str) -> str:
        """The text without them."""
        return self._pattern.sub(MASK, text)

    def hide_all(self, value: Any) -> Any:
        """A nested value of plain kinds without them."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {key: self.hide_all(each) for key, each in value.items()}
        return [self.hide_all(each) for each in value] if isinstance(value, list) else value

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of the logging library: a message loses them on its way to a handler."""
        with suppress(TypeError, ValueError):  # arguments that don't fit: the handler says so
            record.msg, record.args = self.hide(record.getMessage()), ()
        return True


def hide_in_log(secrets: Secrets) -> None:
    """Let no handler that is set up by now write a secret."""
    for handler in [] if secrets.is_empty else logging.getLogger().handlers:
        handler.addFilter(secrets)
