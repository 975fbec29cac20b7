"""The page of planted faults is that of the recorded measurement, and that holds what gate and blame promise."""

import json
from pathlib import Path

from benchmarks.faults.catalogue import FAULTS
from benchmarks.planted import table

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "planted.json").read_text())


def test_the_page_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "planted.md").read_text()


def test_every_fault_was_measured() -> None:
    assert [item["name"] for item in MEASURED["faults"]] == [fault.name for fault in FAULTS]


def test_all_are_caught() -> None:
    assert all(item["caught"] for item in MEASURED["faults"])


def test_every_mistake_of_images_and_labels_is_named() -> None:
    assert all(item["named"] for item in MEASURED["faults"] if item["kind"] in ("preprocessing", "labels"))


def test_blame_puts_the_spoilt_layer_first() -> None:
    layers = [item["named"] for item in MEASURED["faults"] if item["kind"] == "layer"]
    assert len(layers) >= 27
    assert sum(layers) / len(layers) >= 0.9


def test_nothing_is_named_that_is_not_there() -> None:
    assert not [item["name"] for item in MEASURED["faults"] if item["kind"] == "layer" and item["said"]]
    assert not [item for item in MEASURED["healthy"] if item["caught"] or item["said"]]
