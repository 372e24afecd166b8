"""How every table looks as text: straight columns in a terminal's width, whole in a file.

Knows nothing of what a table shows.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.box import Box

FILE_WIDTH = 160
"""Columns of a table where there is no terminal."""
GAP = 2
WRAPPED_WIDTH = 8
"""Columns that a cell of text keeps, however narrow the terminal is."""


def render_table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str],
    align: str,
    width: int | None = None,
) -> str:
    """Rows of cells under a header and a rule, without a line break at the end.

    A cell too wide continues on the next line: nothing is cut off. A number is never split, so a
    table with many of them may be wider than `width`.

    Args:
        align: a letter a column: `<` for text, `>` for numbers.
        width: columns of the whole table; None: the terminal's, or `FILE_WIDTH`.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert len(header) == len(align)
    table = Table(
        box=_rule_under_header(),
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),  # the box itself puts one blank between columns
        header_style="",
    )
    lines = [[_printable(cell) for cell in row] for row in (header, *rows)]
    needed = GAP * (len(header) - 1)
    for name, side, cells in zip(lines[0], align, zip(*lines, strict=True), strict=True):
        is_number = side == ">"
        table.add_column(
            Text(name),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number,
        )
        widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        needed += widest if is_number else min(widest, WRAPPED_WIDTH)
    for row in lines[1:]:
        table.add_row(*map(Text, row))
    file = StringIO()
    console = Console(
        file=file,
        width=max(find_width() if width is None else width, needed),
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        legacy_windows=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().removesuffix("\n").split("\n"))


def find_width() -> int:
    """Columns of the terminal that is written to, if it is one."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return FILE_WIDTH


def _printable(cell: str) -> str:
    """The cell with escapes for what the output's encoding lacks, which are wider."""
    encoding = sys.stdout.encoding or "utf-8"
    return cell.encode(encoding, errors="backslashreplace").decode(encoding)


def _rule_under_header() -> Box:
    from rich.box import Box

    blank = " " * 4
    lines = [blank, blank, "-" * 4, blank, blank, blank, blank, blank]
    return Box("".join(f"{line}\n" for line in lines), ascii=True)
