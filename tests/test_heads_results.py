"""The table of heads is that of the recorded measurement, which holds the limits."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.heads import DENSE, table

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "heads.json").read_text())


def test_the_table_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "int8.md").read_text()


def test_every_head_was_measured_and_holds_the_limits() -> None:
    assert {item["variant"] for item in MEASURED["results"]} == set(DENSE)
    assert list(limits.heads(MEASURED)) == []
