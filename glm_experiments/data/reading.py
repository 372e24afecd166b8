"""Files -> rows, each with the line it begins on, or with what is wrong with it.

Knows the file formats (json, jsonl, csv, tsv, txt), not what the columns mean.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from glm_experiments.data.json_reading import read_json_rows
from glm_experiments.data.rejections import BadRow
from glm_experiments.data.rows import NOT_UTF8, Row, describe_bytes, is_utf8

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")


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


def _choose_reader(file: Path, stream: TextIO) -> Iterator[Row]:
    match file.suffix.lower():
        case ".txt":
            return _read_lines_of_text(str(file), stream)
        case ".csv":
            return _read_table(str(file), stream, delimiter=",")
        case ".tsv":
            return _read_table(str(file), stream, delimiter="\t")
        case _:  # JSON, whatever its name
            return read_json_rows(str(file), stream)


def _read_lines_of_text(file: str, stream: TextIO) -> Iterator[Row]:
    for line, text in enumerate(stream, start=1):
        if text.strip():
            yield Row(file, line, {"text": text.rstrip("\r\n")})


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
