"""Hides secrets in what is kept of a config or a command line, told by the names of their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# num_virtual_tokens and pad_token_id are no secrets, hub_token is one.
SECRET = r"(?:^|[^a-z])(?:token|secret|password|passwd|api_?key)"
SECRET_KEY = re.compile(SECRET + "$", re.IGNORECASE)
SECRET_ENTRY = re.compile(rf"({SECRET}['\"]?\s*:)[^,}}]+", re.IGNORECASE)


def mask_override(override: str) -> str:
    """`key=value` with what is hidden whose key speaks of a secret, also in `key={a: b}`."""
    key, equals, _ = override.partition("=")
    if equals and SECRET_KEY.search(key):
        return f"{key}=***"
    return SECRET_ENTRY.sub(r"\1 ***", override)


def mask_secrets(config: Any) -> Any:
    """A nested config with the values hidden whose keys speak of a secret."""
    if isinstance(config, Mapping):
        return {
            key: "***" if value is not None and SECRET_KEY.search(str(key)) else mask_secrets(value)
            for key, value in config.items()
        }
    return [mask_secrets(each) for each in config] if isinstance(config, list) else config
