"""File formats: which line a row begins on, and what is said of rows that can't be read."""

import csv
import json
import os
from pathlib import Path

import pytest

from glm_experiments.data import json_reading
from glm_experiments.data.reading import read_file
from glm_experiments.data.rows import Row
from tests.shared_data import SHARED, needs_shared

GOOD = '{"prompt": "q", "response": "a"}\n'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def read(folder: Path, name: str, content: str | bytes) -> list[Row]:
    return list(read_file(write(folder, name, content)))


def problems(rows: list[Row]) -> dict[int, str]:
    return {row.line: str(row.problem) for row in rows if row.problem is not None}


def test_json_lines_keep_their_numbers_across_blank_lines(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", "\ufeff" + GOOD + "\n  \n" + GOOD)
    assert [row.line for row in rows] == [1, 4]
    assert rows[0].columns == {"prompt": "q", "response": "a"}
    assert rows[0].file == str(tmp_path / "a.jsonl")


def test_separators_of_unicode_are_no_line_ends(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c"
    rows = read(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n" + GOOD)
    assert [row.line for row in rows] == [1, 2]
    assert rows[0].columns == {"text": text}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"prompt": "q" "response": "a"}', ["broken JSON", "Expecting ',' delimiter", "16"]),
        ("[1, 2]", ["no object", "a list"]),
        ("3", ["no object", "a number"]),
        ("null", ["no object", "null"]),
        ('{"prompt": ' + "[" * 100_000, ["broken JSON", "nested too deeply"]),
        ("1" * 5000, ["broken JSON"]),
    ],
)
def test_a_bad_line_is_named_and_the_others_read(
    tmp_path: Path, bad: str, words: list[str]
) -> None:
    rows = read(tmp_path, "a.jsonl", GOOD + bad + "\n" + GOOD)
    found = problems(rows)
    assert list(found) == [2]
    assert all(word in found[2] for word in words), found[2]
    assert [row.line for row in rows] == [1, 2, 3]


def test_a_last_line_that_breaks_off(tmp_path: Path) -> None:
    found = problems(read(tmp_path, "a.jsonl", GOOD * 2 + GOOD[:20]))
    assert list(found) == [3]
    assert "broken JSON: Unterminated string" in found[3]
    assert "cut off" in found[3]


def test_gbk_bytes_cost_their_row_only(tmp_path: Path) -> None:
    # The second byte of 乗 in GBK is a backslash, which breaks the JSON, too.
    gbk = '{"prompt": "乗法", "response": "a"}\n'.encode("gb18030")
    rows = read(tmp_path, "a.jsonl", GOOD.encode() + gbk + GOOD.encode())
    found = problems(rows)
    assert list(found) == [2]
    assert "not UTF-8: byte 0x81; it looks like GBK" in found[2]
    assert "iconv -f GB18030" in found[2]


def test_utf_16_is_recognised(tmp_path: Path) -> None:
    found = problems(read(tmp_path, "a.jsonl", (GOOD * 2).encode("utf-16")))
    assert "UTF-16" in found[1]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \n\n"])
def test_an_empty_file_stops(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=rf"{name} is empty"):
        read(tmp_path, name, content)


def test_an_empty_array_and_a_lonely_header_stop(tmp_path: Path) -> None:
    for name, content in {"a.json": " [ ]\n", "a.csv": "prompt,response\n"}.items():
        with pytest.raises(ValueError, match="is empty"):
            read(tmp_path, name, content)


def test_a_file_that_cannot_be_opened_stops(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.json can't be read \(No such file"):
        list(read_file(tmp_path / "gone.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"folder\.json can't be read \(Is a directory"):
        list(read_file(tmp_path / "folder.json"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_stops(tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", GOOD)
    file.chmod(0)
    with pytest.raises(ValueError, match=r"a\.json can't be read \(Permission denied"):
        list(read_file(file))


@pytest.mark.parametrize("piece_length", [1, 2, 3, 7, 64, 1 << 20])
def test_items_of_an_array_have_the_lines_they_begin_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_length: int
) -> None:
    monkeypatch.setattr(json_reading, "PIECE_LENGTH", piece_length)
    content = (
        '\n\n[\n  {\n    "text": "a,]\\"\\n\\u00e9中",\n    "n": [1, {"x": -1.5e3}]\n  }, '
        '{"text": "b"},\n\n  12, true,\n  {"text":\n "c"}\n]\n\n'
    )
    rows = read(tmp_path, "a.json", content)
    assert [row.line for row in rows] == [4, 7, 9, 9, 10]
    assert rows[0].columns == {"text": 'a,]"\né中', "n": [1, {"x": -1500.0}]}
    assert [row.columns.get("text") for row in rows] == ['a,]"\né中', "b", None, None, "c"]
    assert problems(rows) == {9: "no object: the row is true or false"}
    assert str(rows[2].problem) == "no object: the row is a number"


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ('[\n{"a": 1},\n{"a": 2\n', 4, "breaks off"),
        ('[\n{"a": 1},\n', 3, "breaks off"),
        ('[\n{"a": 1}', 2, "breaks off"),
        ('[\n{"a": "b', 2, "breaks off"),
        ('[\n{"a": 1},\n{"a": x},\n{"a": 2}]', 3, "Expecting value"),
        ('[\n{"a": 1}\n{"a": 2}]', 3, "Expecting ',' delimiter"),
        ('[\n{"a": 1},\n]', 3, "Expecting value"),
        ('[{"a": 1}]\n[{"a": 2}]', 1, "more follows"),
    ],
)
def test_a_broken_array_stops_with_its_line(
    tmp_path: Path, content: str, line: int, words: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.json, line {line}: .*{words}"):
        read(tmp_path, "a.json", content)


def test_an_object_over_several_lines_says_how_to_write_it(tmp_path: Path) -> None:
    found = problems(read(tmp_path, "a.json", '{\n "text": "a"\n}\n'))
    assert "inside of an array" in found[1]


def test_lines_of_a_table_with_line_ends_in_its_fields(tmp_path: Path) -> None:
    content = 'prompt,response\r\n"a\nb, ""c""",x\r\n\r\nq,"1\r\n2"\r\nlast,z'
    rows = read(tmp_path, "a.csv", "\ufeff" + content)
    assert [row.line for row in rows] == [2, 5, 7]
    assert rows[0].columns == {"prompt": 'a\nb, "c"', "response": "x"}
    assert rows[1].columns == {"prompt": "q", "response": "1\r\n2"}


def test_a_table_with_tabs(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.tsv", "prompt\tresponse\na, b\tc\n")
    assert rows[0].columns == {"prompt": "a, b", "response": "c"}


def test_rows_with_too_many_or_too_few_fields(tmp_path: Path) -> None:
    found = problems(read(tmp_path, "a.csv", 'prompt,response\na,b\na\na,b,c\n"x\ny"\nq,r\n'))
    assert list(found) == [3, 4, 5]
    assert found[3] == "wrong number of fields: 1, but the header has 2"
    assert found[4] == "wrong number of fields: 3, but the header has 2"
    assert "lines 5 to 6" in found[5]


def test_a_quote_that_never_closes(tmp_path: Path) -> None:
    found = problems(read(tmp_path, "a.csv", 'prompt,response\na,b\nc,"d\ne,f\ng,h\n'))
    assert list(found) == [3]
    assert found[3].startswith("broken CSV: unexpected end of data (lines 3 to 5")


def test_a_quote_that_closes_inside_of_a_field(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'prompt,response\n"a"b,c\nd,e\n')
    assert list(problems(rows)) == [2]
    assert rows[1].columns == {"prompt": "d", "response": "e"}


def test_a_field_beyond_the_limit_of_csv(tmp_path: Path) -> None:
    long = "x" * (csv.field_size_limit() + 1)
    rows = read(tmp_path, "a.csv", f"prompt,response\na,{long}\nd,e\n")
    assert "field larger than field limit" in problems(rows)[2]
    assert rows[-1].columns == {"prompt": "d", "response": "e"}


@pytest.mark.parametrize("header", ["a,a", "a,", "a, ,b"])
def test_a_header_that_names_no_column_of_its_own(tmp_path: Path, header: str) -> None:
    with pytest.raises(ValueError, match=r"a\.csv, line 1: the header .* must name each column"):
        read(tmp_path, "a.csv", f"{header}\n1,2\n")


def test_a_table_in_gbk_stops_at_its_header(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.csv, line 1: not UTF-8: .* looks like GBK"):
        read(tmp_path, "a.csv", "问题,答案\n一,二\n".encode("gb18030"))


def test_texts_one_a_line(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.txt", "first \r\n\n second\n")
    assert [(row.line, row.columns["text"]) for row in rows] == [(1, "first "), (3, " second")]


@needs_shared
def test_published_files() -> None:
    file = SHARED / "data" / "alpaca_zh.json"
    rows = list(read_file(file))
    assert [row.columns for row in rows] == json.loads(file.read_text(encoding="utf-8"))
    lines = file.read_text(encoding="utf-8").split("\n")
    assert all("{" in lines[row.line - 1] for row in rows)
    assert len(list(read_file(SHARED / "data" / "adgen_dev.jsonl"))) == 700
