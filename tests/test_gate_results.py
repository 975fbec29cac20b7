"""The cost of the gate and its false alarms on its page are those of the recorded measurement."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "gate.json").read_text())
PAGE = (ROOT / "docs" / "gate.md").read_text()


def test_cost() -> None:
    for key in ("gate_s", "alone_s", "again_s"):
        assert f"{MEASURED['cost'][key]:.1f} s" in PAGE


def test_false_alarms() -> None:
    assert (MEASURED["alarms"]["alarms"] == 0) == ("no false alarm" in PAGE)
