"""Tables on narrow terminals: whole figures, whatever the width."""

import io
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from cloformer_deploy.backends.inspection import Inspection
from cloformer_deploy.backends.onnx.describe import describe
from cloformer_deploy.bench import Bench
from cloformer_deploy.doctor import Survey, survey
from cloformer_deploy.report.bench import bench_tables
from cloformer_deploy.report.cells import add_row, new_table
from cloformer_deploy.report.fitting import fitted
from cloformer_deploy.report.gate import gate_tables
from cloformer_deploy.report.html import Report
from cloformer_deploy.report.tables import bundle_tables, inspection_tables, survey_tables
from tests.fuzz.targets import CORPUS
from tests.report.html.report_examples import measured, report

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


NUMBER = re.compile(r"\([-\d.]+, [-\d.]+\)|[-+]?\d[\d.,]*(?:e[-+]\d+)?%?")
"""Texts that may not be broken over lines."""


@cache
def results() -> tuple[Report, Survey]:
    return report(20), survey()


def real() -> dict[str, list[Table | str]]:
    """Return the tables of the commands, of made-up results."""
    made, system = results()
    bundle = made.bundle
    figures: dict[str, Any] = {"p50_ms": 123.4, "p90_ms": 1234.0, "p99_ms": 9.87, "first_ms": 1.5, "init_ms": 12345.0}
    fast: dict[str, Any] = {"speedup": 12.34, "speedup_ci95": (11.22, 13.44), "peak_rss_bytes": 1_234_000_000}
    timed = [measured(item, **figures, **fast) for item in bundle.manifest.artifacts]
    file = CORPUS / "onnx" / "gemm"
    inspected = [item.inspection for item in made.files if item.inspection is not None]
    return {
        "gate": list(gate_tables(made.result)),
        "bench": list(bench_tables(bundle, Bench(tuple(timed), ()))),
        "inspect": list(inspection_tables(file, Inspection(describe(file)))),
        "inspect-bundle": list(bundle_tables(bundle, inspected)),
        "doctor": list(survey_tables(system)),
    }


@pytest.mark.parametrize("width", [30, 40, 80])
@pytest.mark.parametrize("command", ["gate", "bench", "inspect", "inspect-bundle", "doctor"])
def test_real_tables_keep_their_figures(command: str, width: int) -> None:
    for table in real()[command]:
        if isinstance(table, str):
            continue
        cells = [str(cell) for column in table.columns for cell in column.cells]
        lines = shown(table, width)
        assert max(map(len, lines)) <= width
        for figure in {figure for cell in cells for figure in NUMBER.findall(cell) if len(figure) < width - 4}:
            assert any(figure in line for line in lines), (figure, lines)
