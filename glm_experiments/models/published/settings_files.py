"""Settings as JSON files hold them, and what any downloaded file must be: its content is there.

Knows no key of them. Every broken file is reported by name.
"""

import json
from pathlib import Path
from typing import Any

DOWNLOAD_AGAIN = "download the file again"
_LFS_POINTER = b"version https://git-lfs"


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON object from a file, or a ValueError that names the file."""
    check_is_content(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not readable JSON ({error}); {DOWNLOAD_AGAIN}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object; {DOWNLOAD_AGAIN}")
    return content


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
