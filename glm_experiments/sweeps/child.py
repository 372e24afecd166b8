"""The life of one job's process, from the fork to its end. Knows nothing of what the job does."""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from glm_experiments.processes.parent import die_with_parent
from glm_experiments.progress_file import PROGRESS_FILE
from glm_experiments.record.errors import RunFailed
from glm_experiments.record.files import LOG, PROGRESS
from glm_experiments.record.signals import signal_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A job that is to run.

    number: among all of the sweep. environment: of this job alone. num_threads: None: as many as
    the libraries take.
    """

    number: int
    overrides: list[str]
    folder: Path
    environment: Mapping[str, str]
    num_threads: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey(Request):
    """Jobs of which something is to be found out before they run. jobs: the overrides of each."""

    jobs: list[list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a job said at its end. value: what it returned. problem: why it returned nothing."""

    value: Any = None
    problem: str | None = None
    signum: int | None = None


Work = Callable[[Request], Any]
"""What is done in a job's process."""


def live(work: Work, request: Request, *, parent: int, mouth: int) -> NoReturn:
    """Do the work and say how it ended; in a process of its own.

    parent: the process that forked it. mouth: a descriptor to write to.
    """
    os.setsid()  # so that all that it starts can be ended with it
    die_with_parent(parent)
    value = None
    try:
        prepare(request)
        value = work(request)
    finally:
        said = describe(sys.exception(), value)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.shutdown()
        os.write(mouth, pickle.dumps(said))
        # What libraries tidy up at the end can wait for ever.
        os._exit(0 if said.problem is None and said.signum is None else 1)


def describe(error: BaseException | None, value: Any) -> Said:
    """How a job ended; of what it should have recorded itself, its log gets the traceback."""
    if error is None:
        return Said(value=value)
    if isinstance(error, KeyboardInterrupt):
        return Said(signum=signal_of(error))
    if not isinstance(error, RunFailed):
        traceback.print_exception(error)
    return Said(problem=str(error) or type(error).__name__)


def prepare(request: Request) -> None:
    """What a process of a job's own has of its own."""
    request.folder.mkdir(parents=True, exist_ok=True)
    redirect_output(request.folder / LOG)
    os.environ |= request.environment
    os.environ |= {
        PROGRESS_FILE: str(request.folder / PROGRESS),
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if request.num_threads is not None:
        import torch

        torch.set_num_threads(request.num_threads)


def redirect_output(file: Path) -> None:
    """What libraries and a crash print goes to the job's log."""
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((0, nowhere), (1, opened), (2, opened)):
        os.dup2(target, descriptor)
    os.close(opened)
    os.close(nowhere)
    sys.stdout, sys.stderr = (
        os.fdopen(descriptor, "w", buffering=1, closefd=False, errors="backslashreplace")
        for descriptor in (1, 2)
    )
    faulthandler.enable(file=sys.stderr)
