"""JSON files -> rows with the lines they begin on: an object a line, or one array of objects."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from glm_experiments.data.rejections import BadRow
from glm_experiments.data.rows import NOT_UTF8, Row, describe_bytes, is_utf8, name_type

PIECE_LENGTH = 1 << 20
BROKEN_JSON = "broken JSON"


def read_json_rows(file: str, stream: TextIO) -> Iterator[Row]:
    """Rows of a file that holds an array, or as AdvertiseGen's an object a line, whatever its name.

    Raises:
        ValueError: an array that breaks off or is broken: its rest can't be told apart into rows.
    """
    start = stream.read(PIECE_LENGTH)
    while start.isspace() and (more := stream.read(PIECE_LENGTH)):
        start += more
    if start.lstrip().startswith("["):
        return _read_json_array(file, stream, start)
    stream.seek(0)
    return _read_json_lines(file, stream)


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
    position, line, size = buffer.index("[") + 1, 1, PIECE_LENGTH
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
        position, size, is_first = end + 1, PIECE_LENGTH, False
    rest = buffer[end + 1 :].strip() or stream.read(PIECE_LENGTH).strip()
    if rest:
        raise ValueError(
            f"{file}, line {line}: the array ends here, but more follows; a file holds one array, "
            "or one object a line"
        )


def _describe_broken_array(
    file: str, buffer: str, position: int, line: int, error: Exception
) -> ValueError:
    place, what = len(buffer), "the file breaks off inside of its array"
    is_syntax = isinstance(error, json.JSONDecodeError)
    if isinstance(error, json.JSONDecodeError) and error.pos < len(buffer.rstrip()):
        place = error.pos
        # A string without an end swallows the rest of the file, broken off or not.
        what = f"{error.msg}, or {what}" if "Unterminated" in error.msg else error.msg
    elif isinstance(error, RecursionError):
        place, what = position, "nested too deeply"
    elif isinstance(error, ValueError) and not is_syntax:
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
    what = f"{error.msg} (character {error.pos + 1})"
    if text.strip() == "{":
        what += "; objects that span lines can only be read inside of an array [...]"
    elif not text.endswith("\n"):
        what += "; the last line may have been cut off"
    return BadRow(BROKEN_JSON, what)
