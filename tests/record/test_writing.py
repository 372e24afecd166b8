"""Files and their JSON: loadable, and whole or as they were."""

from __future__ import annotations

import errno
import json
import math
import os
from enum import StrEnum
from pathlib import Path

import pytest

from glm_experiments.record.writing import encode_json, remove_half_written, write_json


def test_a_full_disk_is_said_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "a.json", {"old": 1})

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RuntimeError, match=r"no space is left to write .*a\.json; free some"):
        write_json(tmp_path / "a.json", {"new": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_what_a_killed_process_has_half_written_is_deleted(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    for name in (".a.json.123.tmp", ".mine.tmp", "a.json.123.tmp"):
        (tmp_path / name).touch()
    remove_half_written(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".mine.tmp", "a.json", "a.json.123.tmp"]


def test_what_json_lacks_becomes_loadable() -> None:
    import numpy

    class Mode(StrEnum):
        single = "single"

    value = {
        "nan": math.nan,
        "inf": [-math.inf, 1.5],
        "path": Path("a/b"),
        "mode": Mode.single,
        3: (numpy.float32(0.5), numpy.float64("nan")),
        "text": "小智",
    }
    assert json.loads(encode_json(value)) == {
        "nan": None,
        "inf": [None, 1.5],
        "path": "a/b",
        "mode": "single",
        "3": [0.5, None],
        "text": "小智",
    }
    assert "小智" in encode_json(value)


def test_a_broken_file_name_can_be_recorded(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": "a\udcff"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "a\udcff"}
