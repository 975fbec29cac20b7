"""The page of planted faults is that of the recorded measurement, which has every fault of the catalogue."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.dense import DENSE_FAULTS
from benchmarks.planted import table

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "planted.json").read_text())


def test_the_page_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "planted.md").read_text()


def test_every_fault_was_measured() -> None:
    assert [item["name"] for item in MEASURED["faults"]] == [fault.name for fault in (*FAULTS, *DENSE_FAULTS)]


def test_all_are_caught_and_what_is_no_layer_is_named() -> None:
    assert list(limits.planted(MEASURED)) == []
