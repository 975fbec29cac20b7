"""What all tables are made of."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

Rendered = Iterator[Table | str]


def new_table(*columns: str, numeric: tuple[int, ...] = ()) -> Table:
    """A table without rows; the columns of the given indices are aligned on the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in numeric else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row whose text, much of it from files, is never read as markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number and what it counts: 1 class, 2 classes."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
