"""The times of everyday commands on their page are those of the recorded measurement, and within their limits."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.everyday import table

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "everyday.json").read_text())


def test_the_page_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "export.md").read_text()


def test_the_limits_hold() -> None:
    assert list(limits.everyday(MEASURED)) == []


def test_a_slower_export_is_named() -> None:
    slower = {**MEASURED["seconds"], "export int8": [1000.0], "blame int8": [200.0]}
    found = list(limits.everyday({**MEASURED, "seconds": slower}))
    assert [line.partition(" is ")[0] for line in found] == ["export int8 over export fp32", "seconds of blame"]
