"""The tables of Core AI are those of the recorded measurement, which holds the limits."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.core_ai import WANTED, tables

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "coreai.json").read_text())


def test_the_tables_are_the_measurement_s() -> None:
    assert tables(MEASURED) in (ROOT / "docs" / "coreai.md").read_text()


def test_everything_was_measured_and_the_limits_hold() -> None:
    judged = {(row["variant"], row["format"], row["precision"], row["n"]) for row in MEASURED["judged"]}
    assert judged == {
        (variant, name, precision, n) for variant, name, precisions, n in WANTED for precision in precisions
    }
    assert list(limits.coreai(MEASURED)) == []
