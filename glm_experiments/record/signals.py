"""Who answers a signal while a block runs, and when. Knows nothing of what is done about it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from glm_experiments.record.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal and a scheduler send to end a run; a terminal that ends itself sends the last."""

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handled(handler: Handler, *signals: signal.Signals) -> Iterator[None]:
    """Inside, `handler` answers these signals; whoever did before does so again afterwards.

    Outside of the main thread, which alone may choose, all stays as it is; and what `nohup` made
    deaf to a terminal's end stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def answer(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            let_go_of_terminal()
        handler(signum, frame)

    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [each for each in signals if each is not signal.SIGHUP or not is_deaf]
    before = {each: signal.signal(each, answer) for each in heard}
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)


def let_go_of_terminal() -> None:
    """What is still said to a terminal that is gone, goes nowhere; it would be an error."""
    for descriptor in (1, 2):
        try:
            os.get_terminal_size(descriptor)  # asks what is behind the descriptor
        except OSError as error:
            if error.errno == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


class Deferral:
    """Lets signals wait until they are allowed to interrupt: from the beginning on."""

    def __init__(self) -> None:
        self.is_allowed = False
        self.waiting: list[int] = []
        self.first: int | None = None

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.is_allowed:
            self.first = self.first or signum
            interrupt(signum, frame)
        self.waiting.append(signum)

    def release(self) -> None:
        """Let the first one that waits interrupt.

        Raises:
            Interrupted: where there is one.
        """
        if self.waiting:
            interrupt(self.waiting.pop(0), None)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, they interrupt at once, and those that wait do so before it.

        Raises:
            Interrupted: for one that came, also where a library made another error of it.
        """
        has_ended = False
        try:
            self.is_allowed = True
            self.release()
            yield
            has_ended = True
        finally:
            self.is_allowed = False
            is_replaced = not has_ended and not isinstance(sys.exception(), KeyboardInterrupt)
            if is_replaced and self.first is not None:
                interrupt(self.first, None)


@contextmanager
def deferred(*signals: signal.Signals) -> Iterator[Deferral]:
    """Inside, these signals wait, but where it is allowed; the first one interrupts afterwards.

    Raises:
        Interrupted: for it, in the place of whatever else ended the block.
    """
    deferral = Deferral()
    with handled(deferral.receive, *signals):
        try:
            yield deferral
        finally:
            if not isinstance(sys.exception(), KeyboardInterrupt):
                deferral.release()


def interrupt(signum: int, _frame: FrameType | None) -> NoReturn:
    """A handler: end at once, as Python itself does at SIGINT.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(signum)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal behind an interruption; Python's own says none, for it is SIGINT."""
    return signal.Signals(error.args[0] if error.args else signal.SIGINT)
