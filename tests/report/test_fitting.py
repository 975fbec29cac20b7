"""Tables on narrow terminals: whole figures, whatever the width."""

import io
from collections import Counter
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from cloformer_deploy.report.cells import add_row, new_table
from cloformer_deploy.report.fitting import fitted

FIGURES = ("100.0%", "0.05 (-12.50, 12.60)", "1,234,567,890", "3.4e-06")


def validation() -> Table:
    table = new_table("artifact", "", "agree", "drop pp (95 %)", "max |diff|", "SQNR dB", numeric=(2, 3, 4, 5))
    add_row(table, "tflite int8 hexagon", "passed", "100.0%", "0.05 (-12.50, 12.60)", "3.4e-06", "100.1")
    return table


def words() -> Table:
    table = new_table("metadata", "")
    add_row(table, "weights_name", "a description of many words and 1,234,567,890 parameters, 3.4e-06 and more")
    return table


def counts() -> Table:
    table = new_table("a long title of a column", "operators", numeric=(1,))
    add_row(table, "FULLY_CONNECTED and others, which are many", "1,234,567,890")
    return table


def shown(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(fitted(table, console), markup=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [24, 30, 40, 50, 60, 80, 200])
@pytest.mark.parametrize("table", [validation, words, counts])
def test_figures_are_whole(table: Callable[[], Table], width: int) -> None:
    lines = shown(table(), width)
    assert max(map(len, lines)) <= width
    cells = [str(cell) for column in table().columns for cell in column.cells]
    for figure in FIGURES:
        if any(figure in cell for cell in cells):
            assert any(figure in line for line in lines), (figure, lines)


@pytest.mark.parametrize("table", [validation, words, counts])
def test_nothing_is_lost(table: Callable[[], Table]) -> None:
    cells = Counter("".join(str(cell) for column in table().columns for cell in column.cells if str(cell)))
    for width in (24, 40, 300):
        letters = Counter("".join(shown(table(), width)))
        assert all(letters[char] >= count for char, count in cells.items() if char != " ")
