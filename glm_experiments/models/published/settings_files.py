"""Settings as JSON files hold them, and what any downloaded file must be: its content is there.

Knows no key of them. Every broken file is reported by name.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOWNLOAD_AGAIN = "download the file again"
# What libraries raise over a value of a kind or size that they did not think of.
MISREADINGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LFS_POINTER = b"version https://git-lfs"


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON object from a file, or a ValueError that names the file."""
    check_is_content(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{file} is not readable JSON ({error}); {DOWNLOAD_AGAIN}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object; {DOWNLOAD_AGAIN}")
    return content


def write_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does."""
    text = json.dumps(settings, ensure_ascii=False, indent=2, sort_keys=True)
    file.write_text(text + "\n", encoding="utf-8")


@contextmanager
def blame(source: Path) -> Iterator[None]:
    """Inside, what a library makes of a file's odd values is an error that names `source`, the file
    or its folder; what names it already, or ran out of memory, passes as it is.

    Raises:
        ValueError: for all that such values come to.
    """
    try:
        yield
    except MISREADINGS as error:
        name = str(source) if source.is_dir() else source.name
        if name in str(error) or "memory" in str(error):  # as every device words it
            raise
        first_line = str(error).partition("\n")[0]
        raise ValueError(
            f"{source} holds a value that can't be used ({type(error).__name__}: {first_line}); "
            "copy or download it again"
        ) from error


def check_is_content(file: Path) -> None:
    """Refuse, with a ValueError, an empty file and one that only says where the content is."""
    with file.open("rb") as opened:
        start = opened.read(len(_LFS_POINTER))
    if not start:
        raise ValueError(f"{file} is empty; {DOWNLOAD_AGAIN}")
    if start == _LFS_POINTER:
        raise ValueError(
            f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in "
            f"{file.parent}, or {DOWNLOAD_AGAIN}"
        )
