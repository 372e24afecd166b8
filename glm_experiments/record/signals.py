"""Who answers a signal while a block runs. Knows nothing of what is done about it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from glm_experiments.record.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""What a terminal and a scheduler send to end a run."""


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], object], *signals: signal.Signals
) -> Iterator[None]:
    """Inside, `handler` answers these signals; whoever did before does so again afterwards.

    Outside of the main thread, which alone may choose, all stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in signals}
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)


def interrupt(signum: int, _frame: FrameType | None) -> NoReturn:
    """A handler: end at once, as Python itself does at SIGINT.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(signum)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal behind an interruption; Python's own says none, for it is SIGINT."""
    return signal.Signals(error.args[0] if error.args else signal.SIGINT)
