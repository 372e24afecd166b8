"""Tables: straight in every script, whole at every width, readable in ASCII."""

import os
import subprocess
import sys

import pytest
from rich.cells import cell_len

from glm_experiments.tables import FILE_WIDTH, render_table
from tests.terminal import Terminal

HEADER = ("run", "metric", "loss")
ROWS = [
    ("lora", "exact match", "1.25"),
    ("身份验证: 名字", "[bold]exact[/] :smile:", "-"),
    ("p_tuning_v2 on a long data set of numbers", "perplexity", "1234567.89"),
]


def render(*, width=None, rows=ROWS):
    return render_table(rows, header=HEADER, align="<<>", width=width).split("\n")


def test_columns_are_straight_with_wide_characters():
    lines = render(width=100)
    assert lines == [
        "run                                        metric                        loss",
        "-----------------------------------------------------------------------------",
        "lora                                       exact match                   1.25",
        "身份验证: 名字                             [bold]exact[/] :smile:           -",
        "p_tuning_v2 on a long data set of numbers  perplexity              1234567.89",
    ]
    assert {cell_len(line) for line in lines} == {77}


def test_a_table_without_rows_has_a_header():
    assert render(rows=[]) == ["run  metric  loss", "-----------------"]


@pytest.mark.parametrize("width", [1, 30, 40, 60])
def test_a_narrow_table_cuts_nothing_and_splits_no_number(width):
    lines = render(width=width)
    assert max(map(cell_len, lines)) <= max(width, 8 + 2 + 8 + 2 + 10)
    numbers = [line.rsplit(maxsplit=1)[-1] for line in lines]
    assert {"1.25", "-", "1234567.89"} < set(numbers)
    shown = "".join([lines[0], *lines[2:]])
    given = "".join(cell for row in (HEADER, *ROWS) for cell in row)
    assert sorted(shown.replace(" ", "")) == sorted(given.replace(" ", ""))


def test_a_table_is_as_wide_as_the_terminal_and_whole_in_a_file():
    rows = [("x " * 100, "y", "1")]
    assert max(map(cell_len, render(rows=rows))) == FILE_WIDTH
    with Terminal(width=50):
        assert max(map(cell_len, render(rows=rows))) == 50


def test_an_ascii_locale_shows_escapes_in_straight_columns():
    code = (
        "import sys; from glm_experiments.tables import render_table; "
        f"assert 'rich' not in sys.modules; rows = {ROWS!a}; "
        f"print(render_table(rows, header={HEADER}, align='<<>'))"
    )
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    ).stdout
    lines = output.decode("ascii").splitlines()
    assert lines[3].startswith(r"\u8eab\u4efd\u9a8c\u8bc1: \u540d\u5b57")
    assert len({len(line) for line in lines}) == 1
