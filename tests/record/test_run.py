"""The run record: statuses, what stands in it, and that it is written whatever happens."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.record.errors import Diverged, Interrupted, RunFailed
from glm_experiments.record.run import Run, record_run


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class Weights:
    """Something large that the frames of a failed run hold."""


def record(folder: Path, block: Callable[[Run], None]) -> dict[str, Any]:
    """Run `block` under the record and return what was written."""
    try:
        with record_run(folder, name="try", config={"seed": 1}, overrides=["seed=1"]) as run:
            block(run)
    finally:
        written = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        assert isinstance(written, dict)
        record.last = written  # type: ignore[attr-defined]
    return written


def raising(error: BaseException) -> Callable[[Run], None]:
    def block(run: Run) -> None:
        run.outcome["steps"] = 3
        raise error

    return block


def test_a_finished_run_is_recorded_whole(tmp_path: Path) -> None:
    def block(run: Run) -> None:
        assert not (tmp_path / "results.json").exists()
        run.outcome["metrics"] = {"before": {"identity": {"exact_match": 0.0}}}
        run.environment["data_fingerprint"] = "abc"

    (tmp_path / "results.json").write_text("of an earlier attempt")
    before = time.perf_counter()
    written = record(tmp_path, block)
    assert list(written) == ["version", "run", "config", "outcome", "environment"]
    assert written["run"]["name"] == "try"
    assert written["run"]["status"] == "finished"
    assert written["run"]["error"] is None
    assert written["run"]["overrides"] == ["seed=1"]
    longest = time.perf_counter() - before + 0.001  # it is rounded
    assert 0 <= written["run"]["duration_seconds"] <= longest
    assert written["run"]["start"].startswith("20")
    assert written["config"] == {"seed": 1}
    assert written["outcome"]["metrics"]["before"]["identity"]["exact_match"] == 0.0
    assert written["environment"]["data_fingerprint"] == "abc"
    assert written["environment"]["versions"]["torch"].startswith("2.")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "results.json"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no column q"), "failed"),
        (ZeroDivisionError("division"), "failed"),
        (SystemExit(3), "failed"),
        (Diverged("the loss is nan at step 3"), "diverged"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), "out_of_memory"),
        (ValueError("out of memory is only a word here"), "failed"),
    ],
)
def test_a_failure_is_recorded_with_its_status(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(RunFailed) as failed:
        record(tmp_path, raising(error))
    written = record.last  # type: ignore[attr-defined]
    assert written["run"]["status"] == status
    assert written["run"]["error"]["type"] == type(error).__name__
    assert written["run"]["error"]["message"] == (str(error) or type(error).__name__)
    assert "in block" in written["run"]["error"]["traceback"]
    assert written["outcome"] == {"steps": 3}
    assert str(failed.value).startswith(written["run"]["error"]["message"])
    assert str(tmp_path / "results.json") in str(failed.value)


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("a"), logging.DEBUG), (KeyError("a"), logging.ERROR)]
)
def test_only_an_unexpected_error_shows_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    caplog.set_level(logging.DEBUG, logger="glm_experiments")
    with pytest.raises(RunFailed):
        record(tmp_path, raising(error))
    levels = [each.levelno for each in caplog.records if "Traceback" in each.getMessage()]
    assert levels == [level]


@pytest.mark.parametrize(
    "error",
    [
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 448 vs 342"),
    ],
)
def test_a_full_disk_that_a_library_met_is_no_surprise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.INFO, logger="glm_experiments")
    with pytest.raises(
        RunFailed, match=f"{re.escape(str(error))}; free some space where {tmp_path}"
    ):
        record(tmp_path, raising(error))
    assert not caplog.records


def test_a_folder_holds_one_run_at_a_time(tmp_path: Path) -> None:
    record(tmp_path, lambda run: run.outcome.update(steps=7))
    code = (
        "import sys; from pathlib import Path; from glm_experiments.record.run import *\n"
        f"with record_run(Path({str(tmp_path)!r}), name='a', config={{}}, overrides=[]):\n"
        "    print('in', flush=True); input()"
    )
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with (
            pytest.raises(RunFailed, match=rf"another process is at work in {tmp_path}; wait"),
            record_run(tmp_path, name="b", config={}, overrides=[]),
        ):
            raise AssertionError("never entered")
        assert not (tmp_path / "results.json").exists()
        first.communicate("\n")
    assert first.returncode == 0
    assert json.loads((tmp_path / "results.json").read_text())["run"]["name"] == "a"
    assert record(tmp_path, lambda _: None)["run"]["name"] == "try"


def test_a_failed_run_lets_go_of_its_memory(tmp_path: Path) -> None:
    kept: list[weakref.ref[Weights]] = []

    def stages() -> None:
        weights = Weights()
        kept.append(weakref.ref(weights))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error

    with (
        pytest.raises(RunFailed),
        record_run(tmp_path, name="try", config={}, overrides=[]),
    ):
        stages()
    assert kept[0]() is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_recorded_and_passed_on(tmp_path: Path, signum: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def block(_run: Run) -> None:
        os.kill(os.getpid(), signum)

    with pytest.raises(Interrupted) as interrupted:
        record(tmp_path, block)
    written = record.last  # type: ignore[attr-defined]
    assert written["run"]["status"] == "interrupted"
    assert written["run"]["error"]["message"] == signum.name
    assert interrupted.value.args == (signum,)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (ValueError("no column q"), "failed"),
        (Interrupted(signal.SIGTERM), "interrupted"),
    ],
)
def test_a_signal_while_the_record_is_written_waits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    status: str,
    signum: signal.Signals,
) -> None:
    from glm_experiments.record import run as module

    def send(*_: object) -> dict[str, Any]:
        os.kill(os.getpid(), signum)
        return {}

    for function in ("read_git_state", "capture_environment"):  # before the block and after it
        monkeypatch.setattr(module, function, send)
        with pytest.raises(Interrupted):
            record(tmp_path, lambda _: None if error is None else raising(error)(Run()))
        written = record.last  # type: ignore[attr-defined]
        is_before = function == "read_git_state"
        assert written["run"]["status"] == ("interrupted" if is_before else status)
        monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "results.json"]


def test_a_record_that_cannot_be_written_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with (
        pytest.raises(RunFailed, match="no column q"),
        record_run(tmp_path, name="try", config={}, overrides=[]),
    ):
        raise ValueError("no column q")
    assert "the record is missing: no space is left" in caplog.text
    with (
        pytest.raises(RunFailed, match="no space is left"),
        record_run(tmp_path, name="try", config={}, overrides=[]),
    ):
        pass
