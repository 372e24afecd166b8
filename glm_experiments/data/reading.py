"""Files -> rows, each with the line it begins on, or with what is wrong with it.

Knows the file formats (json, jsonl, csv, tsv, txt), not what the columns mean.
"""

import csv
import glob
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from glm_experiments.data.rejections import BadRow

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
CHUNK_LENGTH = 1 << 20
NOT_UTF8 = "not UTF-8"
BROKEN_JSON = "broken JSON"


@dataclass(frozen=True, slots=True)
class Row:
    """Columns of one row, or why there are none (`problem`)."""

    file: str
    line: int
    columns: dict[str, Any]
    problem: BadRow | None = None


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set of the hub, one of its splits."""

    path: str
    subset: str | None
    split: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.path}:{self.split}"


def find_files(path: str, *, key: str) -> list[Path]:
    """Files that `path`, a file's name or a glob, means; none where it may be a hub id.

    Raises:
        ValueError: naming `key`: nothing there, a folder, or a kind of file that isn't known.
    """
    typed = Path(path).expanduser()
    if typed.is_dir():
        raise ValueError(
            f"data.{key}={path} is a folder; type the files in it, e.g. 'data.{key}={path}/*.jsonl'"
        )
    files = [typed]
    if not typed.exists():
        found = sorted(glob.glob(str(typed), recursive=True))  # noqa: PTH207 Path has no absolute glob
        files = [Path(name) for name in found if not Path(name).is_dir()]
        if not files and HUB_ID.fullmatch(path) and typed.suffix.lower() not in SUFFIXES:
            return []
        if not files:
            raise ValueError(
                f"data.{key}={path}: there is no such file (looked in {Path.cwd()}); type the name "
                "of a file, a glob, or a hub dataset's id (owner/name)"
            )
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"data.{key}: {file} is of no known kind; its name must end with one of "
                f"{', '.join(SUFFIXES)}"
            )
    return files


def read_file(file: Path) -> Iterator[Row]:
    """Rows of one file in order; blank lines are passed over.

    Raises:
        ValueError: the file can't be read, holds nothing, or has no end of damage (a JSON array
            that breaks off, a header without columns).
    """
    try:
        # Bytes that are no UTF-8 come through as lone surrogates, so that only their row is lost.
        # JSON's lines end with \n alone; csv wants to see the ends of lines itself.
        is_table = file.suffix.lower() in (".csv", ".tsv")
        with file.open(
            encoding="utf-8-sig", errors="surrogateescape", newline="" if is_table else "\n"
        ) as stream:
            rows = _choose_reader(file, stream)
            first = next(rows, None)
            if first is None:
                raise ValueError(f"{file} is empty; give a file with rows")
            yield first
            yield from rows
    except OSError as error:
        raise ValueError(
            f"{file} can't be read ({error.strerror or error}); give a file that can be"
        ) from error


def read_hub_dataset(dataset: HubDataset) -> Iterator[Row]:
    """Rows of a hub dataset's split; a row's line is its number, from 1.

    Raises:
        ValueError: it isn't there or can't be had.
    """
    import datasets

    try:
        rows = datasets.load_dataset(
            dataset.path, name=dataset.subset, split=dataset.split, revision=dataset.revision
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{dataset.path} is no file here, and as a hub dataset (data.subset={dataset.subset}, "
            f"split {dataset.split}, data.revision={dataset.revision}) it can't be loaded: "
            f"{error}; type the name of a file, or look at the id, the split and the network"
        ) from error
    if not len(rows):
        raise ValueError(f"{dataset} is empty; give a split with rows")
    for number, columns in enumerate(rows, start=1):
        yield Row(str(dataset), number, columns)


def _choose_reader(file: Path, stream: TextIO) -> Iterator[Row]:
    match file.suffix.lower():
        case ".txt":
            return _read_lines_of_text(str(file), stream)
        case ".csv":
            return _read_table(str(file), stream, delimiter=",")
        case ".tsv":
            return _read_table(str(file), stream, delimiter="\t")
    # A .json may hold an array or, as AdvertiseGen's, a JSON value a line; so may a .jsonl.
    start = stream.read(CHUNK_LENGTH)
    while start.isspace() and (more := stream.read(CHUNK_LENGTH)):
        start += more
    if start.lstrip().startswith("["):
        return _read_json_array(str(file), stream, start)
    stream.seek(0)
    return _read_json_lines(str(file), stream)


def _read_lines_of_text(file: str, stream: TextIO) -> Iterator[Row]:
    for line, text in enumerate(stream, start=1):
        if text.strip():
            yield Row(file, line, {"text": text.rstrip("\r\n")})


def _read_json_lines(file: str, stream: TextIO) -> Iterator[Row]:
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            yield _build_row(file, line, json.loads(text))
        except (ValueError, RecursionError) as error:
            yield Row(file, line, {}, _describe_broken_line(text, error))


def _read_json_array(file: str, stream: TextIO, buffer: str) -> Iterator[Row]:
    """Items of one array, decoded piece by piece: neither the text nor all values at once."""
    scan, skip_blanks = json.JSONDecoder().raw_decode, re.compile(r"[ \t\n\r]*").match
    position, line, size = buffer.index("[") + 1, 1, CHUNK_LENGTH
    line += buffer.count("\n", 0, position)
    is_first = True
    while True:
        begin = _end_of(skip_blanks(buffer, position))
        try:
            if is_first and buffer[begin] == "]":
                end = begin
            else:
                value, end = scan(buffer, begin)
                end = _end_of(skip_blanks(buffer, end))
                if buffer[end] not in ",]":
                    raise json.JSONDecodeError("Expecting ',' delimiter", buffer, end)
        except (ValueError, IndexError, RecursionError) as error:
            # What looks broken may only not have been read yet. Twice as much each time keeps the
            # repeated decoding of a long item cheap.
            if more := stream.read(size):
                buffer, position, size = buffer[position:] + more, 0, 2 * size
                continue
            raise _describe_broken_array(file, buffer, position, line, error) from None
        line += buffer.count("\n", position, begin)
        if end > begin:
            yield _build_row(file, line, value)
        line += buffer.count("\n", begin, end)
        if buffer[end] == "]":
            break
        position, size, is_first = end + 1, CHUNK_LENGTH, False
    rest = buffer[end + 1 :].strip() or stream.read(CHUNK_LENGTH).strip()
    if rest:
        raise ValueError(
            f"{file}, line {line}: the array ends here, but more follows; a file holds one array, "
            "or one object a line"
        )


def _describe_broken_array(
    file: str, buffer: str, position: int, line: int, error: Exception
) -> ValueError:
    place, what = len(buffer), "the file breaks off inside of its array"
    if isinstance(error, json.JSONDecodeError) and error.pos < len(buffer.rstrip()):
        place, what = error.pos, error.msg
    elif isinstance(error, RecursionError):
        place, what = position, "nested too deeply"
    elif isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        place, what = position, str(error)
    if not is_utf8(buffer[position : place + 1]):
        what += f"; {NOT_UTF8}, {describe_bytes(buffer[position : place + 1])}"
    line += buffer.count("\n", position, place)
    return ValueError(
        f"{file}, line {line}: {BROKEN_JSON}: {what}. What follows can't be told apart into rows: "
        "repair the file"
    )


def _end_of(match: re.Match[str] | None) -> int:
    assert match is not None
    return match.end()


def _read_table(file: str, stream: TextIO, *, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = BadRow("broken CSV", f"{error}{_name_span(line, reader.line_num)}")
            if not header:
                raise ValueError(f"{file}, line {line}: {problem}; repair the header") from None
            yield Row(file, line, {}, problem)
            continue
        if not "".join(fields).strip() and len(fields) < 2:
            continue  # a blank line
        if not header:
            header = fields
            _check_header(file, line, header)
        elif len(fields) != len(header):
            problem = BadRow(
                "wrong number of fields",
                f"{len(fields)}, but the header has {len(header)}"
                + _name_span(line, reader.line_num),
            )
            yield Row(file, line, {}, problem)
        else:
            yield Row(file, line, dict(zip(header, fields, strict=True)))


def _name_span(first: int, last: int) -> str:
    return f" (lines {first} to {last} were read as one row)" if last > first else ""


def _check_header(file: str, line: int, header: list[str]) -> None:
    """The first line must name every column, each by another name."""
    if not is_utf8("".join(header)):
        raise ValueError(f"{file}, line {line}: {NOT_UTF8}: {describe_bytes(''.join(header))}")
    if len(set(header)) < len(header) or not all(name.strip() for name in header):
        raise ValueError(
            f"{file}, line {line}: the header {', '.join(map(repr, header))} leaves a column "
            "without a name of its own; the first line must name each column"
        )


def _build_row(file: str, line: int, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(file, line, {}, BadRow("no object", f"the row is {name_type(value)}"))
    if not is_utf8("".join(value)):
        return Row(file, line, {}, BadRow(NOT_UTF8, describe_bytes("".join(value))))
    return Row(file, line, value)


def _describe_broken_line(text: str, error: ValueError | RecursionError) -> BadRow:
    if not is_utf8(text):
        return BadRow(NOT_UTF8, describe_bytes(text))
    if isinstance(error, RecursionError):
        return BadRow(BROKEN_JSON, "nested too deeply")
    if not isinstance(error, json.JSONDecodeError):
        return BadRow(BROKEN_JSON, str(error))
    what = f"{error.msg} at character {error.pos + 1}"
    if text.strip() == "{":
        what += "; objects that span lines can only be read inside of an array [...]"
    elif not text.endswith("\n"):
        what += "; the last line may have been cut off"
    return BadRow(BROKEN_JSON, what)


def is_utf8(text: str) -> bool:
    """Whether `text` is whole: without halves of characters, and without undecoded bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_bytes(text: str) -> str:
    """What the undecoded part of `text` may be, and how to convert it."""
    try:
        raw = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x}"
        if b"\0" in raw:
            return f"{found}; it looks like UTF-16: convert it, iconv -f UTF-16 -t UTF-8"
        try:
            raw.decode("gb18030")
        except UnicodeDecodeError:
            return found
        return f"{found}; it looks like GBK: convert it, iconv -f GB18030 -t UTF-8"
    return "half of a surrogate pair, which is no character"


def name_type(value: Any) -> str:
    """What JSON calls a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
