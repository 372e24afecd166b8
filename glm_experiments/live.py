"""A line at the foot of the terminal that says how far a long work is, below the log's lines; or,
of a process that somebody else watches, a file that says so.

Knows nothing of the work. Who is watched decides `show_bar`; elsewhere the log says it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from glm_experiments.progress_file import PROGRESS_FILE, FileBar

SECONDS_BETWEEN_FRAMES = 0.1
ROOM_FOR_ECHO = 3
"""Columns left free at the right: a Ctrl-C shows as ^C there instead of on another line."""


class Bar(Protocol):
    """What of a work is done."""

    is_logged: bool
    """Whether the log should say it, too."""

    def show(self, done: int, *, total: int, note: str | None = None) -> None:
        """Show it, unless that was done just now.

        note: stands behind the count; None: the time left, by the pace since the first call.
        """


class TerminalBar:
    """What of a work is done, on a terminal."""

    is_logged = False

    def __init__(self, progress: Progress, description: str, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None, unit=unit, count="", note="")
        self._unit = unit
        self._start: tuple[float, int] | None = None
        self._drawn = 0.0

    def show(self, done: int, *, total: int, note: str | None = None) -> None:
        now = time.monotonic()
        start, already = self._start = self._start or (now, done)
        if note is None:
            pace = (now - start) / (done - already) if done > already else None
            note = "" if pace is None else f"{format_seconds(pace * (total - done))} left"
        count = f"{done}/{total} {self._unit}"
        self._progress.update(self._task, completed=done, total=total, count=count, note=note)
        if now - self._drawn >= SECONDS_BETWEEN_FRAMES or done >= total:
            self._drawn = now
            self._progress.refresh()


@contextmanager
def show_bar(description: str, *, unit: str, stays: bool) -> Iterator[Bar | None]:
    """A bar for the work inside; None where nobody would see it, or where it would be in the way.

    unit: what is counted, in the plural. stays: the last state is left on the terminal.
    """
    if file := os.environ.get(PROGRESS_FILE):
        yield FileBar(Path(file), description, unit)
        return
    console = _Terminal(file=sys.stderr, highlight=False, force_jupyter=False)
    if not (is_watched() and console.is_interactive):
        yield None
        return
    progress = Progress(
        _text("{task.description}"),
        BarColumn(bar_width=None),
        _text("{task.fields[count]}"),
        _text("{task.fields[note]}"),
        console=console,
        # No thread draws: it could hold the terminal's lock while another process is forked.
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=not stays,
        expand=True,
    )
    with progress, lines_above(console):
        yield TerminalBar(progress, description, unit)


class Lines:
    """Several lines at the foot of a terminal."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, lines: Sequence[str]) -> None:
        """Draw them anew, each cut where the terminal is too narrow."""
        text = Text("\n".join(lines), no_wrap=True, overflow="crop")
        self._live.update(text, refresh=True)


@contextmanager
def show_lines() -> Iterator[Lines | None]:
    """Lines that change while the block runs; None where nobody would see them."""
    console = _Terminal(file=sys.stderr, highlight=False, force_jupyter=False)
    if not (is_watched() and console.is_interactive):
        yield None
        return
    live = Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )
    with live, lines_above(console):
        yield Lines(live)


def is_watched() -> bool:
    """Whether a line of this process's own may stand at the foot of a terminal.

    The log of a child process is written by its parent, which knows of no bar.
    """
    is_hushed = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return sys.stderr.isatty() and multiprocessing.parent_process() is None and not is_hushed


@contextmanager
def lines_above(console: Console) -> Iterator[None]:
    """Inside, what is logged or printed to the terminal appears above the console's bar."""
    with ExitStack() as stack:
        proxies: dict[int, _LinesAbove] = {}

        def divert(stream: Any) -> Any:
            if id(stream) not in proxies:
                proxies[id(stream)] = _LinesAbove(stream, console)
                stack.callback(proxies[id(stream)].close_line)
            return proxies[id(stream)]

        for handler in find_stream_handlers():
            stream = handler.stream
            if is_terminal(stream):
                handler.setStream(divert(stream))
                stack.callback(handler.setStream, stream)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream):
                setattr(sys, name, divert(stream))
                stack.callback(setattr, sys, name, stream)
        yield


def find_stream_handlers() -> list[logging.StreamHandler[Any]]:
    """Of all loggers: libraries have handlers of their own."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = {
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
    }
    return [each for each in handlers if type(each) is logging.StreamHandler]


def is_terminal(stream: Any) -> bool:
    """Whether what is written to the stream is seen at once."""
    return hasattr(stream, "isatty") and not stream.closed and bool(stream.isatty())


def format_seconds(seconds: float) -> str:
    """1:02:03 or 02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _text(what: str) -> TextColumn:
    """Cut where the terminal is too narrow, without the ellipsis that not every one can show."""
    return TextColumn(what, markup=False, table_column=Column(no_wrap=True, overflow="crop"))


class _Terminal(Console):
    """Leaves the cursor as it is: a process that is killed could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        return False

    @property
    def options(self) -> ConsoleOptions:
        options = super().options
        return options.update_width(max(1, options.max_width - ROOM_FOR_ECHO))


class _LinesAbove:
    """A terminal's stream whose whole lines go above the console's bar."""

    def __init__(self, stream: Any, console: Console) -> None:
        self._stream = stream
        self._console = console
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._begun = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if os.getpid() != self._process:  # forked meanwhile: the bar isn't its own
            return int(self._stream.write(text))
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                # Of a line that is written over again and again, the last state.
                self._console.out(line.rstrip("\r").rpartition("\r")[2])
        return len(text)

    def close_line(self) -> None:
        """Write the half line that is left."""
        if self._begun:
            self._console.out(self._begun)
            self._begun = ""
