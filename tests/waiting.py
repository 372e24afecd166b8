"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_SECONDS = 120.0
"""Longer than anything here takes on a busy machine: whoever waits so long waits in vain."""


def wait_until(is_so: Callable[[], object], *, what: str) -> None:
    """Ask again and again until it is so.

    Raises:
        TimeoutError: where it never is.
    """
    deadline = time.monotonic() + HANG_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"in vain: {what}")
        time.sleep(0.05)
