"""The launcher's side of the process that forks jobs: starts it, and another where it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from glm_experiments.sweeps.child import Request, Work
from glm_experiments.sweeps.server import Ended, Kill, Ready, serve


class Crew:
    """Runs jobs side by side, each in a process of its own, none of which outlives this one.

    work: what a job's process does. Forked with all that is there: nothing of it is copied or
    imported once more.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.gpus: tuple[str, ...] | None = None
        self.running: set[int] = set()
        self._link: Connection | None = None
        self._end: Callable[[], object] | None = None

    def start(self, request: Request) -> None:
        """Begin a job."""
        self.running.add(request.number)
        self._send(request)

    def ask(self, request: Request) -> Any:
        """What some work returns, once it is done and while nothing else runs; None: it failed."""
        assert not self.running
        self.start(request)
        while self.running:
            for ended in self.hear(timeout=1.0):
                return None if ended.said is None else ended.said.value
        return None

    def kill(self, number: int, signum: int, *, whole: bool = False) -> None:
        """Send a job a signal; whole: and all that it has started."""
        self._send(Kill(number=number, signum=signum, whole=whole))

    def hear(self, *, timeout: float) -> list[Ended]:
        """The jobs that have ended meanwhile, waiting so many seconds for the first news.

        Where the process that starts them died, all that ran have ended with it.

        Raises:
            RuntimeError: where it died before it could start any.
        """
        ended: list[Ended] = []
        link = self._open()
        try:
            while link.poll(timeout):
                timeout = 0
                news = link.recv()
                match news:
                    case Ready(gpus=gpus):
                        self.gpus = gpus
                    case Ended() as one:
                        self.running.discard(one.number)
                        ended.append(one)
                    case _:
                        raise TypeError(f"no such news: {news!r}")
        except (EOFError, ConnectionResetError):
            self.close()
            if self.gpus is None:
                raise RuntimeError(
                    "the process that would start the jobs ended while it imported the libraries; "
                    "see what it said above"
                ) from None
            ended += [Ended(number=each, code=-signal.SIGKILL, said=None) for each in self.running]
            self.running.clear()
        return ended

    def close(self) -> None:
        """End whatever runs."""
        if self._end is not None:
            self._end()
        self._link = None

    def _send(self, message: Request | Kill) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `hear` says that it died
            self._open().send(message)

    def _open(self) -> Connection:
        if self._link is None:
            ours, theirs = multiprocessing.Pipe()
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                ours.close()
                serve(theirs, self.work, parent=parent)
            theirs.close()
            self._link = ours
            self._end = weakref.finalize(self, end, pid, ours)
        return self._link


def end(pid: int, link: Connection) -> None:
    """End the process, and with it all jobs."""
    link.close()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
