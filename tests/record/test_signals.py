"""Who answers signals: the block's handler inside, whoever did before outside."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading

import pytest

from glm_experiments.record.errors import Interrupted
from glm_experiments.record.signals import STOPPING, deferred, handled, interrupt, signal_of


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


def test_signals_wait_until_they_are_allowed() -> None:
    seen = []

    def before() -> None:
        with deferred(*STOPPING) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            seen.append("before")
            with signals.allowed():
                seen.append("never")

    def after() -> None:
        with deferred(*STOPPING) as signals:
            with signals.allowed():
                seen.append("inside")
            os.kill(os.getpid(), signal.SIGHUP)
            seen.append("after")

    for block, signum in ((before, signal.SIGTERM), (after, signal.SIGHUP)):
        with pytest.raises(Interrupted) as interrupted:
            block()
        assert signal_of(interrupted.value) is signum
    assert seen == ["before", "inside", "after"]


def test_an_interruption_is_not_replaced_by_the_next() -> None:
    def block() -> None:
        with deferred(*STOPPING) as signals:
            try:
                with signals.allowed():
                    os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as interrupted:
        block()
    assert signal_of(interrupted.value) is signal.SIGTERM


def test_an_interruption_of_which_a_library_makes_another_error_is_one() -> None:
    def block() -> None:
        with deferred(*STOPPING) as signals, signals.allowed():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                raise AttributeError("what was half built")

    with pytest.raises(Interrupted) as interrupted:
        block()
    assert signal_of(interrupted.value) is signal.SIGTERM
    with pytest.raises(AttributeError), deferred(*STOPPING) as signals, signals.allowed():
        raise AttributeError("without a signal")


def test_whoever_is_deaf_to_the_end_of_a_terminal_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(interrupt, *STOPPING):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


SPEAKING = """
import signal, sys, time
from glm_experiments.record.signals import STOPPING, handled
gone = []
with handled(lambda *_: gone.append(1), *STOPPING):
    print("ready", flush=True)
    while not gone:
        time.sleep(0.05)
    print("to nobody", flush=True)
sys.exit(7)
"""


def test_nothing_is_wrong_with_speaking_to_a_terminal_that_is_gone() -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", SPEAKING])
    read = b""
    while b"ready" not in read:
        read += os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
