"""The cache file: whole or not at all, and never believed when it is damaged."""

from pathlib import Path

import numpy as np
import pytest

from glm_experiments.data.token_cache import (
    BadRowNote,
    TokenTable,
    join_tables,
    read_tables,
    write_tables,
)

NOTE = BadRowNote(4, "answer longer than the context", "答案 30 tokens", 32)


def table(*lengths: int, first_row: int = 0) -> TokenTable:
    num_tokens = sum(lengths)
    return TokenTable(
        np.arange(num_tokens, dtype=np.int32),
        np.arange(num_tokens) % 2 == 0,
        np.cumsum([0, *lengths], dtype=np.int64),
        np.arange(first_row, first_row + len(lengths)),
        1,
        5,
        (NOTE,),
    )


def assert_equal(one: TokenTable, other: TokenTable) -> None:
    for name in ("input_ids", "is_trained", "offsets", "rows"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        assert np.array_equal(left, right), name
    assert (one.num_truncated, one.num_cut) == (other.num_truncated, other.num_cut)
    assert one.bad_rows == other.bad_rows


def test_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    assert read_tables(file) is None
    tables = {"train": table(3, 2), "validation": table()}
    write_tables(file, tables)
    found = read_tables(file)
    assert found is not None
    assert list(found) == ["train", "validation"]
    for name, each in tables.items():
        assert_equal(found[name], each)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_file_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file = tmp_path / "a.safetensors"
    write_tables(file, {"train": table(30, 20)})
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            content = content[:-7]
        case "flipped":
            content[-100] ^= 1
        case "foreign":
            content = bytearray(b"PK\x03\x04" * 100)
        case "empty":
            content = bytearray()
    file.write_bytes(content)
    assert read_tables(file) is None
    assert "a.safetensors is damaged" in caplog.text


def test_a_write_that_fails_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    write_tables(file, {"train": table(3)})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_tables(file, {"train": table(4)})
    monkeypatch.undo()
    found = read_tables(file)
    assert found is not None
    assert_equal(found["train"], table(3))
    assert len(list(tmp_path.iterdir())) == 1


def test_joined() -> None:
    joined = join_tables([table(3, 2), table(), table(4, first_row=2)])
    assert joined.offsets.tolist() == [0, 3, 5, 9]
    assert joined.rows.tolist() == [0, 1, 2]
    assert joined.input_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert (joined.num_truncated, joined.num_cut, len(joined.bad_rows)) == (3, 15, 3)
