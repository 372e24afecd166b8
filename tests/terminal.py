"""A terminal to write to, and what a reader sees on it."""

from __future__ import annotations

import os
import pty
import re
import sys
from typing import Any

import pytest

CODES = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal:
    """Inside, standard output and error are a terminal of so many columns."""

    def __init__(self, *, width: int = 80) -> None:
        self.patches = pytest.MonkeyPatch()
        self.width = width
        self.written = ""
        self.stream: Any = None

    def __enter__(self) -> Terminal:
        self.master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", buffering=1, encoding="utf-8")
        for name, value in {"COLUMNS": str(self.width), "LINES": "24", "TERM": "xterm"}.items():
            self.patches.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            self.patches.delenv(name, raising=False)
        self.patches.setattr(sys, "stdout", self.stream)
        self.patches.setattr(sys, "stderr", self.stream)
        return self

    def __exit__(self, *_: object) -> None:
        self.patches.undo()
        self.read()
        self.stream.close()
        os.close(self.master)

    def read(self) -> list[str]:
        """The lines that are seen by now."""
        self.stream.flush()
        os.set_blocking(self.master, False)
        try:
            while data := os.read(self.master, 1 << 16):
                self.written += data.decode()
        except BlockingIOError:
            pass
        return show_screen(self.written)


def show_screen(written: str) -> list[str]:
    """The lines of a terminal that is wide enough after this was written to it."""
    lines, row, column = [""], 0, 0
    for count, code, back, down, text in CODES.findall(written):
        if text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
        elif back:
            column = 0
        elif down:
            row += 1
            lines += [""] * (row == len(lines))
        elif code == "K":
            assert count == "2"
            lines[row] = ""
        elif code == "A":
            row -= int(count or 1)
        else:
            assert code == "m", f"not known: {count}{code}"
    return [line.rstrip() for line in lines]
