"""The recorded cost of the gate, and its false alarms, are those of its page, and what the gate promises."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "gate.json").read_text())
PAGE = (ROOT / "docs" / "gate.md").read_text()


def test_cost() -> None:
    cost = MEASURED["cost"]
    assert MEASURED["images"] == 1000
    assert cost["ratio"] <= 1.3
    assert cost["again_s"] <= 5
    for key in ("gate_s", "alone_s", "again_s"):
        assert f"{cost[key]:.1f} s" in PAGE


def test_false_alarms() -> None:
    alarms = MEASURED["alarms"]
    assert alarms["trials"] >= 200
    assert alarms["alarms"] <= 0.02 * alarms["trials"]
    assert not alarms["alarms"]
    assert "no false alarm" in PAGE
