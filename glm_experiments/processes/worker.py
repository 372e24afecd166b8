"""The life of one process among several on this machine, on one link to the parent that started it.

Knows nothing of its work. Imports no torch, so that the environment stands before torch does.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from glm_experiments.processes.parent import die_with_parent
from glm_experiments.record.run import Run
from glm_experiments.record.signals import STOPPING, handled, interrupt

Work = Callable[[Run], None]
"""What every worker does, filling a record of its own; importable by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How far a worker got; at its end also what ended it. `at` is the time, in seconds."""

    run: Run
    is_final: bool
    error: BaseException | None = None
    at: float = 0.0


@handled(interrupt, *STOPPING)  # outside of training, which knows better, they end it at once
def serve(
    link: Connection, work: bytes, environment: dict[str, str], *, level: int, output: Path
) -> None:
    """The life of one worker; it doesn't return."""
    os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which passes it on
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        die_with_parent(parent.pid)
    os.environ |= environment
    is_main = environment["RANK"] == "0"
    run, speech = Run(), Speech(link)
    threading.Thread(target=answer_parent, args=(link, speech, run), daemon=True).start()
    logging.getLogger().handlers = [QueueHandler(speech)]  # type: ignore[arg-type]
    logging.getLogger().setLevel(level)
    if not is_main:
        hush()
        redirect_output(output)
    from tqdm import tqdm

    # Its default is a lock between processes, which nobody frees at the end below.
    tqdm.set_lock(threading.RLock())
    try:
        pickle.loads(work)(run)
    finally:
        error = sys.exception()
        speech.put_nowait(
            Report(run=run, is_final=True, error=portable(error), at=time.time()),
        )
        if not is_main and (error is None or isinstance(error, KeyboardInterrupt)):
            output.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # What libraries tidy up at the end can wait for ever for a process that is gone.
        os._exit(0 if error is None else 1)


class Speech:
    """One process's side of a link, for several threads; a queue to the logging library."""

    def __init__(self, link: Connection) -> None:
        self.link = link
        self.lock = threading.RLock()

    def put_nowait(self, said: Any) -> None:
        """Send to the parent."""
        message = pickle.dumps(said)  # whole: torch would have `send` lend tensors' memory
        with self.lock:
            self.link.send_bytes(message)


def answer_parent(link: Connection, speech: Speech, run: Run) -> None:
    """Say how far the work is whenever asked; end with the parent."""
    try:
        while True:
            link.recv()
            speech.put_nowait(Report(run=run, is_final=False))
    except (EOFError, OSError):
        os._exit(1)


def hush() -> None:
    """Only errors are worth saying more than once. To be called before the libraries come."""
    os.environ |= {
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)


def redirect_output(file: Path) -> None:
    """What libraries and a crash print goes to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)


def portable(error: BaseException | None) -> BaseException | None:
    """The error with its traceback as a note; a RuntimeError in place of one that can't travel."""
    if error is None:
        return None
    trace = "".join(traceback.format_exception(error))
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, TypeError, AttributeError):
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In process {os.environ['RANK']}:\n{trace}")
    return copy
