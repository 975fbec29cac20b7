"""Tables on narrow terminals: no figure is broken over two lines."""

import re
from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_FIGURE = re.compile(r"\([-+\d.,e ]+\)|\S*\d\S*")
"""An interval, or a word with a digit: a number, a percentage."""
_LEAST = 8
"""Width of a column of words, whose longer words may be broken."""
_INDENT = "  "
_ROOM = 1000
"""More than the columns that stand between those of a table."""


def fitted(table: Table, console: Console) -> RenderableType:
    """Return a table that fits a console, or its rows below each other where it would have to break a figure.

    Columns that are aligned right are figures as a whole; of the others, the figures among the words.
    """
    rows = _rows(table)
    columns = list(zip(*rows, strict=True))
    natural = [_widest(line for cell in column for line in cell.splitlines()) for column in columns]
    width, unlimited = console.width, console.options.update(max_width=sum(natural) + _ROOM)
    gaps = Measurement.get(console, unlimited, table).maximum - sum(natural)
    if sum(natural) + gaps <= width:
        return table
    least = []
    for column, whole, of in zip(columns, natural, table.columns, strict=True):
        figures = (figure for cell in column for figure in _FIGURE.findall(cell))
        least.append(whole if of.justify == "right" else min(whole, max(_LEAST, _widest(figures))))
    room = width - gaps - sum(least)
    if room < 0:
        return Group(*(Text(line) for line in _stacked(rows, width)))
    for of, whole, needed in zip(table.columns, natural, least, strict=True):
        more = min(room, whole - needed)
        room -= more
        of.width = needed + more
    return table


def _rows(table: Table) -> list[list[str]]:
    """Return the titles of the columns, and the cells of each row."""
    columns = [[_plain(column.header), *map(_plain, column.cells)] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _stacked(rows: list[list[str]], width: int) -> Iterator[str]:
    """Yield the first cell of each row, and below it the others behind the titles of their columns."""
    titles, *rest = rows
    for first, *others in rest:
        yield first
        for title, cell in zip(titles[1:], others, strict=True):
            line = f"{_INDENT}{title} {cell}" if title else f"{_INDENT}{cell}"
            fits = cell_len(line) <= width
            yield from [line] if fits else [f"{_INDENT}{title}", f"{_INDENT}{_INDENT}{cell}"]
        yield ""
