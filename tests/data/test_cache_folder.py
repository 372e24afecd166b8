"""The cache's folder: where it is, what it keeps, and that it can only cost time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glm_experiments.data import cache_folder
from glm_experiments.data.cache_folder import cached_tables, user_cache
from glm_experiments.data.token_cache import TokenTable
from tests.running import UNMEASURED, Typed, read_record


def table(value: int, num_tokens: int = 1000) -> TokenTable:
    return TokenTable(
        np.full(num_tokens, value, np.int32),
        np.ones(num_tokens, np.bool_),
        np.array([0, num_tokens], np.int64),
        np.array([0], np.int64),
    )


def making(value: int, calls: list[int]) -> Callable[[], dict[str, TokenTable]]:
    def encode() -> dict[str, TokenTable]:
        calls.append(value)
        return {"train": table(value)}

    return encode


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def kept(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.safetensors")}


def test_a_run_keeps_its_token_ids_in_the_users_cache(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cache").write_text("where it once was")
    for name in ("one", "two"):
        done = typed.train(tmp_path / "runs" / name, *UNMEASURED)
        assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["cache", "one", "two"]
    (file,) = (tmp_path / "user" / "glm_experiments").glob("*.safetensors")
    logs = [(tmp_path / "runs" / name / "train.log").read_text() for name in ("one", "two")]
    assert f"kept in {file}" in logs[0]
    assert f"the token ids are taken from {file}" in logs[1]


@pytest.mark.parametrize("is_given", [True, False])
def test_a_folder_that_cannot_be_written_costs_one_warning(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    given = [f"data.cache_dir={tmp_path / 'file'}"] if is_given else []
    done = typed.train(tmp_path / "run", *UNMEASURED, *given)
    assert done.code == 0, done.err
    assert read_record(tmp_path / "run")["run"]["status"] == "finished"
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("][WARNING]") == 1
    assert f"token ids can't be kept in {tmp_path / 'file'}" in log
    assert "type data.cache_dir=FOLDER" in log


@pytest.mark.parametrize("trouble", ["no home", "no locks", "full disk", "damage", "held lock"])
def test_trouble_costs_time_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    def fail(error: Exception) -> Callable[..., None]:
        def raising(*_: object, **__: object) -> None:
            raise error

        return raising

    calls: list[int] = []
    cache_dir: str | None = str(tmp_path)
    cached_tables("a", making(1, calls), cache_dir=cache_dir)
    match trouble:
        case "no home":
            monkeypatch.delenv("XDG_CACHE_HOME")
            monkeypatch.setattr(Path, "home", fail(RuntimeError("no home directory")))
            cache_dir = None
        case "no locks":
            (tmp_path / "a.safetensors").unlink()
            monkeypatch.setattr(
                cache_folder.FileLock, "acquire", fail(NotImplementedError("no flock"))
            )
        case "full disk":
            (tmp_path / "a.safetensors").unlink()
            monkeypatch.setattr(cache_folder, "write_tables", fail(OSError(28, "No space left")))
        case "damage":
            (tmp_path / "a.safetensors").write_bytes(b"PK" * 300)
        case "held lock":
            (tmp_path / "a.safetensors").unlink()
            monkeypatch.setattr(cache_folder, "LOCK_SECONDS", 0.1)
            held = cache_folder.FileLock(tmp_path / "a.safetensors.lock", is_singleton=False)
            held.acquire()
    caplog.clear()
    tables = cached_tables("a", making(1, calls), cache_dir=cache_dir)
    assert tables["train"].input_ids.tolist() == [1] * 1000
    assert calls == [1, 1]
    assert len(warnings_of(caplog)) == 1


def test_a_cache_that_can_only_be_read_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    cached_tables("a", making(1, calls), cache_dir=str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_folder.FileLock, "acquire", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    cached_tables("a", making(1, calls), cache_dir=str(tmp_path))
    assert calls == [1]
    assert not warnings_of(caplog)


def test_what_was_not_used_for_longest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    for age, key in enumerate("abc"):
        cached_tables(key, making(1, calls), cache_dir=str(tmp_path))
        past = time.time() - 1000 + age
        os.utime(tmp_path / f"{key}.safetensors", (past, past))
    size = (tmp_path / "a.safetensors").stat().st_size
    monkeypatch.setattr(cache_folder, "MOST_BYTES", 3 * size)
    leftover = tmp_path / f".a.safetensors.{'0' * 32}"
    foreign = tmp_path / ".notes.txt"
    for path in (leftover, foreign):
        path.write_text("half")
        os.utime(path, (1, 1))
    cached_tables("a", making(1, calls), cache_dir=str(tmp_path))  # used
    cached_tables("d", making(1, calls), cache_dir=str(tmp_path))
    assert kept(tmp_path) == {"a", "c", "d"}
    assert not (tmp_path / "b.safetensors.lock").exists()
    assert not leftover.exists()
    assert foreign.exists()
    monkeypatch.setattr(cache_folder, "MOST_BYTES", size - 1)
    tables = cached_tables("e", making(5, calls), cache_dir=str(tmp_path))
    assert tables["train"].input_ids[0] == 5
    assert kept(tmp_path) == set()


def use_often(folder: str, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        value = rng.randrange(6)
        tables = cached_tables(str(value), making(value, []), cache_dir=folder)
        assert tables["train"].input_ids.tolist() == [value] * 1000


def test_several_processes_use_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "MOST_BYTES", 20_000)  # of six times 5 kB
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=use_often, args=(str(tmp_path), seed)) for seed in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [0] * 4
    assert not list(tmp_path.glob(".*"))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= 20_000


def test_the_users_cache_is_where_the_system_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert user_cache() == Path("/elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() == tmp_path / ".cache"
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_cache() == tmp_path / "Library" / "Caches"
