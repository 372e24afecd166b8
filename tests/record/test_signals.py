"""Who answers signals: the block's handler inside, whoever did before outside."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from glm_experiments.record.errors import Interrupted
from glm_experiments.record.signals import STOPPING, handled, interrupt, signal_of


def test_a_block_has_its_own_handler() -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    received: list[int] = []

    def block() -> None:
        with handled(lambda signum, _: received.append(signum), *STOPPING):
            for each in STOPPING:
                os.kill(os.getpid(), each)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert received == list(STOPPING)
    assert [signal.getsignal(each) for each in STOPPING] == before


def test_another_thread_leaves_the_handlers_alone() -> None:
    seen = []

    def block() -> None:
        with handled(interrupt, *STOPPING):
            seen.extend(signal.getsignal(each) for each in STOPPING)

    before = [signal.getsignal(each) for each in STOPPING]
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == before


def test_an_interruption_says_which_signal_it_was() -> None:
    with pytest.raises(Interrupted) as interrupted, handled(interrupt, signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal_of(interrupted.value) is signal.SIGTERM
    assert signal_of(KeyboardInterrupt()) is signal.SIGINT
