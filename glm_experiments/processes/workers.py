"""Starts the processes of a run on this machine and ends them: all of them, whatever happens.

The parent hears of a worker over one link: its log, what it has done, how it ended. Knows nothing
of what the workers do. Imports no torch, so that a worker's environment stands before torch does.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from glm_experiments.processes.standstill import LOOK_SECONDS, Standstill
from glm_experiments.processes.worker import Report, Work, serve
from glm_experiments.record.errors import Interrupted
from glm_experiments.record.files import numbered_checkpoints, rank_log_name
from glm_experiments.record.run import Run
from glm_experiments.record.signals import STOPPING, handled

# What the others may take to end after one that died without a word; after one that said why, for
# then they may be ending, too, and tell a tracker; and a stuck one to say how far it got.
DEATH_SECONDS = 5.0
ERROR_SECONDS = 30.0
REPLY_SECONDS = 1.0


@dataclass(kw_only=True, slots=True)
class Worker:
    """A worker as its parent sees it."""

    rank: int
    process: Any
    link: Connection
    folder: Path
    run: Run | None = None
    report: Report | None = None
    is_listening: bool = True


def run_workers(work: Work, run: Run, *, num_processes: int, folder: Path) -> None:
    """Run `work` in so many processes and take over what the first of them recorded.

    folder: keeps what a worker other than the first said, where it failed.

    Raises:
        Interrupted: after a signal, which the workers get, too; at once at the second.
        RuntimeError: where a worker died without a word, or stands still.
        Exception: whatever ended a worker first.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        # As torchrun says that the store is there already.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": os.environ.get(
            "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes))
        ),
    }
    workers: list[Worker] = []
    with forwarded_signals(workers) as received:
        try:
            for rank in range(num_processes):
                workers.append(start(work, rank=rank, environment=environment, folder=folder))
            error = supervise(workers)
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
            for worker in workers:  # read once more: what was said just before the end
                listen(worker)
                worker.link.close()
            if workers and workers[0].run is not None:
                run.outcome |= workers[0].run.outcome
                run.environment |= workers[0].run.environment
        if error is not None and received:
            raise Interrupted(received[0])
        if error is not None:
            raise error


def start(work: Work, *, rank: int, environment: dict[str, str], folder: Path) -> Worker:
    """Start one worker."""
    context = multiprocessing.get_context("spawn")
    link, other_end = context.Pipe()
    seat = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    process = context.Process(
        target=serve,
        name=f"rank {rank}",
        args=(other_end, pickle.dumps(work), {**environment, **seat}),
        kwargs={"level": logging.getLogger().level, "output": folder / rank_log_name(rank)},
    )
    process.start()
    other_end.close()
    return Worker(rank=rank, process=process, link=link, folder=folder)


@contextmanager
def forwarded_signals(workers: list[Worker]) -> Iterator[list[int]]:
    """Inside, the first signal goes to the workers, the second one raises here."""
    received: list[int] = []

    def forward(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            raise Interrupted(signum)
        for worker in workers:
            if worker.process.is_alive():
                os.kill(worker.process.pid, signum)

    with handled(forward, *STOPPING):
        yield received


def supervise(workers: list[Worker]) -> BaseException | None:
    """Listen until all have ended, or for a little while after one has ended badly.

    Returns:
        What ended the run, if it did not end well.
    """
    deadline: float | None = None
    standstill = Standstill()
    while alive := [worker for worker in workers if worker.process.is_alive()]:
        for worker in workers:
            listen(worker)
        if deadline is None and (error := first_error(workers)) is not None:
            has_spoken = any(worker.report and worker.report.error is error for worker in workers)
            patience = ERROR_SECONDS if has_spoken else DEATH_SECONDS
            deadline = time.monotonic() + patience
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            ask_how_far(workers[0])
            return first_error(workers)
        links = [each.link for each in workers if each.is_listening]
        patient = LOOK_SECONDS if left is None else min(left, LOOK_SECONDS)
        wait([*links, *(worker.process.sentinel for worker in alive)], timeout=patient)
        ranks = {worker.process.pid: worker.rank for worker in alive}
        if (problem := standstill.look(ranks)) is not None:
            ask_how_far(workers[0])
            return RuntimeError(f"{problem}{how_to_continue(workers[0].folder)}")
    for worker in workers:
        listen(worker)
    return first_error(workers)


def listen(worker: Worker) -> None:
    """Take in what a worker has said so far."""
    while worker.is_listening:
        try:
            if not worker.link.poll():
                return
            message = worker.link.recv_bytes()
        except (EOFError, OSError):
            worker.is_listening = False
            return
        said = pickle.loads(message)
        if isinstance(said, logging.LogRecord):
            logging.getLogger(said.name).handle(said)
            continue
        assert isinstance(said, Report)
        worker.run = said.run
        if said.is_final:
            worker.report = said


def ask_how_far(worker: Worker) -> None:
    """Let a worker that hangs (waiting for a dead one, say) tell what it has recorded."""
    with suppress(OSError):  # it has ended
        worker.link.send(None)
        if worker.link.poll(REPLY_SECONDS):
            listen(worker)


def first_error(workers: list[Worker]) -> BaseException | None:
    """What ended the run: a death without a word, else the earliest error."""
    for worker in workers:
        code = worker.process.exitcode
        if worker.report is None and code is not None and not worker.is_listening:
            return RuntimeError(describe_death(worker.rank, code, folder=worker.folder))
    reports = [worker.report for worker in workers if worker.report is not None]
    failed = sorted((each for each in reports if each.error is not None), key=lambda each: each.at)
    return failed[0].error if failed else None


def describe_death(rank: int, code: int, *, folder: Path) -> str:
    """Exit code or signal in words, and what to do; folder: the run's."""
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    hint = ", as the system does when the machine's memory runs out" if code == -9 else ""
    said = "the log above" if rank == 0 else f"the log above and {rank_log_name(rank)}"
    return (
        f"the process of rank {rank} ended unexpectedly ({how}{hint}), so all others were stopped; "
        f"see {said}{how_to_continue(folder)}"
    )


def how_to_continue(folder: Path) -> str:
    """What to type to go on with the run in a folder, where it left a checkpoint."""
    if not numbered_checkpoints(folder):
        return ""
    return (
        f", and type the same command and hydra.run.dir={folder} to continue from the last "
        "checkpoint (in a sweep, its hydra.sweep.dir)"
    )
