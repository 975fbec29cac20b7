"""The tables of NPUs are those of the recorded measurement, which holds the limits."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.npus import ETHOS_US, HEXAGONS, VARIANTS, tables

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "npus.json").read_text())


def test_the_tables_are_the_measurement_s() -> None:
    assert tables(MEASURED) in (ROOT / "docs" / "npu.md").read_text()


def test_every_npu_was_asked_and_the_limits_hold() -> None:
    found = {(row["variant"], row["precision"], row["device"]) for row in MEASURED["compiled"]}
    hexagons = {(name, bits, device) for name in VARIANTS for bits in ("int8", "w8a16") for device in HEXAGONS}
    assert found == hexagons | {(name, "int8", device) for name in VARIANTS for device in ETHOS_US}
    assert {(run["variant"], run["precision"]) for run in MEASURED["simulated"]} == {item[:2] for item in hexagons}
    assert list(limits.npus(MEASURED)) == []
