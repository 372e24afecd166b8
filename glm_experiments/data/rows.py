"""One row of data as its file gives it, and the words for what is wrong with one.

Knows neither file formats nor what columns mean.
"""

from dataclasses import dataclass
from typing import Any

from glm_experiments.data.rejections import BadRow

NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """Columns of one row, or why there are none (`problem`)."""

    file: str
    line: int
    columns: dict[str, Any]
    problem: BadRow | None = None


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
