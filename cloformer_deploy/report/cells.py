"""Cells and names that all tables share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cloformer_deploy.backends.registry import default_target
from cloformer_deploy.system.text import visible

if TYPE_CHECKING:
    from cloformer_deploy.bench import Result
    from cloformer_deploy.bundle.manifest import Artifact
    from cloformer_deploy.validation import ArtifactVerdict

Rendered = Iterator[Table | str]
STATUS = {
    "passed": Text("passed", style="green"),
    "failed": Text("failed", style="red"),
    "not_executed": Text("not run"),
}


def new_table(*columns: str, numeric: tuple[int, ...] = ()) -> Table:
    """Return a table without rows; the columns of the given indices are right-aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in numeric else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row. Text, much of it from files, is never read as markup, nor does it control the terminal."""
    table.add_row(*(Text(visible(cell)) if isinstance(cell, str) else cell for cell in cells))


def short_name(item: "Artifact | ArtifactVerdict | Result") -> str:
    """Return format and precision, and the target where it is not the format's default."""
    default = item.target == default_target(item.format)
    return f"{item.format} {item.precision}" + ("" if default else f" {item.target}")


def percent(value: float | None) -> str:
    """Return a share in percent, or a dash."""
    if value is None:
        return "-"
    text = f"{value:.1%}"
    # One disagreement in 10,000 is not 100 %.
    return ">99.9%" if text == "100.0%" and value < 1 else text
