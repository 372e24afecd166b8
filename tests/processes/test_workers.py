import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from glm_experiments.processes.workers import describe_death, run_workers
from glm_experiments.record.errors import Diverged, Interrupted, status_of
from glm_experiments.record.run import Run
from glm_experiments.record.signals import STOPPING
from tests.processes import works
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def start(work, tmp_path: Path) -> Run:
    run = Run()
    run_workers(work, run, num_processes=2, folder=tmp_path)
    return run


def test_the_first_worker_records_and_speaks(tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO):
        run = start(works.succeed, tmp_path)
    assert run.outcome == {"rank": 0, "world": ["2", "0"]}
    assert run.environment == {"model": "tiny"}
    assert [each.getMessage() for each in caplog.records] == ["said by 0"]
    assert caplog.records[0].name == "tests.processes.works"
    assert capfd.readouterr().err == "printed by 0\n"
    assert list(tmp_path.iterdir()) == []
    assert "RANK" not in os.environ


def test_a_mistake_is_told_once_with_its_type_and_what_was_recorded(tmp_path):
    run = Run()
    with pytest.raises(ValueError, match=r"^data.path is wrong; type another") as caught:
        run_workers(works.fail_alike, run, num_processes=2, folder=tmp_path)
    assert run.outcome["rank"] == 0
    assert "In process" in caught.value.__notes__[0]
    assert "in fail_alike" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("how", "kind", "message", "status"),
    [
        ("kill", RuntimeError, r"the process of rank 1 ended unexpectedly \(SIGKILL,", "failed"),
        ("exit", RuntimeError, r"rank 1 ended unexpectedly \(exit code 7\).*rank1\.log", "failed"),
        ("silent", RuntimeError, r"rank 1 ended unexpectedly \(exit code 0\)", "failed"),
        ("memory", works.OutOfMemoryError, "^CUDA: no memory is left", "out_of_memory"),
        ("diverged", Diverged, "^the loss is nan at step 3", "diverged"),
        ("stubborn", RuntimeError, "^StubbornError: two words", "failed"),
    ],
)
def test_one_bad_end_ends_all(how, kind, message, status, tmp_path, monkeypatch):
    for name in ("DEATH_SECONDS", "ERROR_SECONDS"):
        monkeypatch.setattr(f"glm_experiments.processes.workers.{name}", 0.5)
    monkeypatch.setenv("READY_FOLDER", str(tmp_path))
    run = Run()
    with pytest.raises(kind, match=message) as caught:
        run_workers(
            functools.partial(works.fail_in_second, how=how), run, num_processes=2, folder=tmp_path
        )
    assert not (tmp_path / works.WAITED_OUT).exists()  # the other one was ended
    assert status_of(caught.value) == status
    assert run.outcome["rank"] == 0  # told while it hung


def test_a_death_names_the_logs_there_are_and_how_to_continue(tmp_path):
    assert describe_death(0, 7, folder=tmp_path).endswith("see the log above")
    assert describe_death(1, 7, folder=tmp_path).endswith("see the log above and rank1.log")
    (tmp_path / "checkpoint-2").mkdir()
    how = f"type the same command and hydra.run.dir={tmp_path} to continue"
    assert how in describe_death(1, 7, folder=tmp_path)


@pytest.mark.parametrize("signum", STOPPING)
def test_a_signal_reaches_every_worker_once(signum, tmp_path, monkeypatch):
    monkeypatch.setenv("READY_FOLDER", str(tmp_path))

    def interrupt() -> None:
        works.wait_for_ready(tmp_path, count=2)
        os.kill(os.getpid(), signum)

    threading.Thread(target=interrupt).start()
    run = Run()
    with pytest.raises(Interrupted) as caught:
        run_workers(works.stop_nicely, run, num_processes=2, folder=tmp_path)
    assert caught.value.args == (signum,)
    assert run.outcome["noted"] == [signum]


def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("READY_FOLDER", str(tmp_path))

    def interrupt() -> None:
        works.wait_for_ready(tmp_path, count=2)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        start(works.ignore_signals, tmp_path)
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_worker_that_stands_still_is_named_and_ends_the_run(
    goes_on, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("READY_FOLDER", str(tmp_path))
    for module in ("standstill", "workers"):
        monkeypatch.setattr(f"glm_experiments.processes.{module}.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("glm_experiments.processes.standstill.MOST_LOOKS", 10**6 if goes_on else 5)
    run = Run()

    def let_go_on() -> None:
        works.wait_for_ready(tmp_path, count=2)
        wait_until(lambda: "kill -CONT" in caplog.text, what="it is named")
        os.kill(int(caplog.text.split("kill -CONT ")[1].split()[0]), signal.SIGCONT)
        (tmp_path / "a.go").touch()

    work = functools.partial(run_workers, works.stand_still, run, num_processes=2, folder=tmp_path)
    if goes_on:
        thread = threading.Thread(target=let_go_on)
        thread.start()
        work()
        thread.join()
    else:
        (tmp_path / "checkpoint-2").mkdir()
        with pytest.raises(RuntimeError, match=r"rank 1 \(\d+\) stood still for .* to continue"):
            work()
    assert run.outcome["rank"] == 0
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1  # of a slow one, nothing
    assert "the process of rank 1 (" in warnings[0]


def test_workers_do_not_outlive_their_parent(tmp_path):
    environment = {**os.environ, "READY_FOLDER": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-m", "tests.processes.works"], env=environment)
    workers = works.wait_for_ready(tmp_path, count=2)
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(is_alive, workers)), what="they end as their parent has")


def is_alive(process: int) -> bool:
    """A zombie that nobody waits for counts as dead."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
