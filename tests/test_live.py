"""The line at the foot of a terminal, among what else is written there."""

import logging
import multiprocessing
import sys
from contextlib import suppress

import pytest

from glm_experiments.live import format_seconds, is_watched, show_bar
from tests.terminal import Terminal


def test_what_is_logged_and_printed_stands_whole_above_the_bar(monkeypatch):
    with Terminal() as terminal:
        stream, handler = terminal.stream, logging.StreamHandler(terminal.stream)
        log = logging.getLogger("tests.live")
        monkeypatch.setattr(log, "handlers", [handler])
        with show_bar("training", unit="steps", stays=True) as bar:
            bar.show(1, total=4, note="loss 3")
            log.warning("a line of the log, longer than the terminal: %s", "x" * 80)
            print("half a", end=" ", flush=True)
            bar.show(4, total=4, note="loss 2")
            print("line 中文")
            sys.stderr.write("\r 10 %\r100 %")
            assert "loss 2" in terminal.read()[-1]
        assert (sys.stdout, sys.stderr, handler.stream) == (stream, stream, stream)
        print("after")
        lines = terminal.read()
    assert lines[0].endswith("x" * 80)
    assert lines[1:2] == ["half a line 中文"]
    assert lines[3].startswith("training ━")
    assert lines[3].endswith("4/4 steps loss 2")
    assert lines[2].endswith("100 %")
    assert lines[4:] == ["after", ""]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_bar_is_as_wide_as_the_terminal(width):
    with Terminal(width=width) as terminal:
        with show_bar("general, before tuning", unit="answers", stays=False) as bar:
            bar.show(0, total=1000)
            bar.show(1000, total=1000)
            lines = terminal.read()
        print("after")
        assert terminal.read() == ["after", ""]  # where the bar was
    assert len(lines) == 1
    assert width - 8 < len(lines[0]) < width - 1
    assert width == 40 or lines[0].endswith("1000/1000 answers 00:00 left")


def test_an_interrupted_bar_leaves_a_clean_terminal():
    with Terminal() as terminal:
        with suppress(KeyboardInterrupt), show_bar("training", unit="steps", stays=True) as bar:
            bar.show(1, total=4, note="loss 3")
            raise KeyboardInterrupt
        print("interrupted")
        assert sys.stdout is terminal.stream
        lines = terminal.read()
    assert lines[0].endswith("1/4 steps loss 3")
    assert lines[1:] == ["interrupted", ""]
    assert "\x1b[?25l" not in terminal.written  # a process that is killed can't show it again


def test_a_bar_in_ascii():
    with Terminal() as terminal:
        terminal.stream.reconfigure(encoding="ascii")
        with show_bar("training", unit="steps", stays=True) as bar:
            bar.show(1, total=4, note="loss 3")
    assert terminal.written.isascii()
    assert "----" in terminal.written


def test_no_bar_where_nobody_sees_it_or_where_it_would_be_in_the_way(monkeypatch):
    with show_bar("training", unit="steps", stays=True) as bar:
        assert bar is None
    with Terminal():
        assert is_watched()
        # Its parent writes its log, between two states of its bar.
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert not pool.apply(is_watched)
        monkeypatch.setenv("TERM", "dumb")
        with show_bar("training", unit="steps", stays=True) as bar:
            assert bar is None
        monkeypatch.setenv("TQDM_DISABLE", "1")
        assert not is_watched()


def test_seconds_as_a_clock():
    assert [format_seconds(each) for each in (0.4, 62, 3723)] == ["00:00", "01:02", "1:02:03"]
