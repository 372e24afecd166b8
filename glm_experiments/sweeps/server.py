"""The process that imports once and forks each job: starts them, ends them, says how they ended.

Computes nothing itself: a child of a process that has done so in several threads hangs. Knows
nothing of devices and sweeps.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from glm_experiments.processes.parent import die_with_parent
from glm_experiments.record.signals import STOPPING
from glm_experiments.sweeps.child import Request, Said, Work, live

SECONDS_BETWEEN_LOOKS = 0.02
MOST_SAID = 1 << 16
# What a job would import first.
MODULES = ("peft", "transformers.trainer", "datasets", "glm_experiments.experiment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """All is imported. gpus: as CUDA_VISIBLE_DEVICES names those that are visible."""

    gpus: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """A job is to get a signal. whole: with all processes of its group."""

    number: int
    signum: int
    whole: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A job's process is gone. code: its exit code, or minus the signal that ended it.

    said: None: it had no chance to.
    """

    number: int
    code: int
    said: Said | None


@dataclass(kw_only=True, slots=True)
class Child:
    """A job's process, as its parent sees it. ear: what it says at its end."""

    number: int
    ear: int


def serve(link: Connection, work: Work, *, parent: int) -> NoReturn:
    """The life of the process; it doesn't return."""
    children: dict[int, Child] = {}
    try:
        die_with_parent(parent)
        os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which decides
        handlers = {each: signal.signal(each, signal.SIG_DFL) for each in STOPPING}
        # Else asking for GPUs would make a context, which no child could use.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
        for module in MODULES:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()  # children need not look through the libraries, nor copy them for that
        link.send(Ready(gpus=find_gpus()))
        while True:
            if wait([link], timeout=SECONDS_BETWEEN_LOOKS if children else None):
                asked = link.recv()
                match asked:
                    case Request() as request:
                        fork(link, work, request, children, handlers=handlers)
                    case Kill() as kill:
                        end(kill, children)
                    case _:
                        raise TypeError(f"no such request: {asked!r}")
            for ended in reap(children):
                link.send(ended)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has ended, or wants no more
    finally:
        if sys.exception() is not None:
            traceback.print_exc()
        for pid in children:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)


def find_gpus() -> tuple[str, ...]:
    """The GPUs that this process sees."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if named is None else [each.strip() for each in named.split(",") if each.strip()]
    return tuple(names[:count]) if names else tuple(map(str, range(count)))


def fork(
    link: Connection,
    work: Work,
    request: Request,
    children: dict[int, Child],
    *,
    handlers: dict[signal.Signals, Any],
) -> None:
    """Start a job."""
    ear, mouth = os.pipe()
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        link.close()
        for child in children.values():
            os.close(child.ear)
        os.close(ear)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        live(work, request, parent=server, mouth=mouth)
    os.close(mouth)
    children[pid] = Child(number=request.number, ear=ear)


def end(kill: Kill, children: dict[int, Child]) -> None:
    """Send a job a signal, if it is still there."""
    for pid, child in children.items():
        if child.number == kill.number:
            with suppress(ProcessLookupError):  # it has no group of its own yet, or no more
                (os.killpg if kill.whole else os.kill)(pid, kill.signum)


def reap(children: dict[int, Child]) -> list[Ended]:
    """Take leave of the jobs that have ended, and of what they have started."""
    ended = []
    for pid, child in list(children.items()):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            continue
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # before it is forgotten: its number is its own
        _, status = os.waitpid(pid, 0)
        del children[pid]
        ended.append(
            Ended(
                number=child.number,
                code=os.waitstatus_to_exitcode(status),
                said=hear(child.ear),
            )
        )
    return ended


def hear(ear: int) -> Said | None:
    """What a job said at its end."""
    os.set_blocking(ear, False)
    try:
        return pickle.loads(os.read(ear, MOST_SAID))  # type: ignore[no-any-return]
    except (BlockingIOError, EOFError, pickle.UnpicklingError):
        return None
    finally:
        os.close(ear)
