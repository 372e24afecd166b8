"""What workers do in the tests of starting and ending them. Without torch they start at once."""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from glm_experiments.processes.workers import run_workers
from glm_experiments.record.errors import Diverged
from glm_experiments.record.run import Run
from glm_experiments.record.signals import STOPPING
from tests.waiting import HANG_SECONDS, wait_until

WAITED_OUT = "waited_out"

log = logging.getLogger(__name__)


def is_rank(rank: int) -> bool:
    return os.environ["RANK"] == str(rank)


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class StubbornError(RuntimeError):
    """Can be pickled, but not read back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def begin(run: Run) -> None:
    run.outcome["rank"] = int(os.environ["RANK"])
    run.outcome["world"] = [os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]]


def succeed(run: Run) -> None:
    begin(run)
    run.environment["model"] = "tiny"
    log.info("said by %s", os.environ["RANK"])
    sys.stderr.write(f"printed by {os.environ['RANK']}\n")


def fail_alike(run: Run) -> None:
    begin(run)
    raise ValueError("data.path is wrong; type another")


def fail_in_second(run: Run, *, how: str) -> None:
    """Rank 0 hangs, as one that waits for rank 1 does."""
    begin(run)
    if is_rank(0):
        time.sleep(HANG_SECONDS)
        (Path(os.environ["READY_FOLDER"]) / WAITED_OUT).touch()
    time.sleep(0.2)
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "silent":
            os._exit(0)
        case "memory":
            raise OutOfMemoryError("CUDA: no memory is left")
        case "diverged":
            raise Diverged("the loss is nan at step 3")
        case "stubborn":
            raise StubbornError("two", "words")


def stop_nicely(run: Run) -> None:
    """As training does: a signal is noted, and the work stops a moment later."""
    begin(run)
    noted: list[int] = []
    for each in STOPPING:
        signal.signal(each, lambda signum, _: noted.append(signum))
    signal_ready()
    while not noted:
        time.sleep(0.05)
    time.sleep(0.3)
    run.outcome["noted"] = noted
    raise KeyboardInterrupt(noted[0])


def ignore_signals(run: Run) -> None:
    begin(run)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    signal_ready()
    time.sleep(10 * HANG_SECONDS)


def stand_still(run: Run) -> None:
    """The second is stopped, and the first waits for it; both were slow before."""
    begin(run)
    time.sleep(1)
    signal_ready()
    if is_rank(1):
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    wait_until(lambda: list(Path(os.environ["READY_FOLDER"]).glob("*.go")), what="it goes on")


def signal_ready() -> None:
    folder = Path(os.environ["READY_FOLDER"])
    (folder / f"{os.getpid()}.ready").touch()


def wait_for_ready(folder: Path, *, count: int) -> list[int]:
    """The workers' process ids."""
    wait_until(lambda: len(list(folder.glob("*.ready"))) >= count, what="the workers start")
    return [int(file.stem) for file in folder.glob("*.ready")]


def main() -> NoReturn:
    """A parent whose workers hang, for a test that kills it."""
    run_workers(ignore_signals, Run(), num_processes=2, folder=Path(os.environ["READY_FOLDER"]))
    raise AssertionError


if __name__ == "__main__":
    main()
