"""The tables of Core AI are those of the recorded measurement, which holds the limits."""

import json
from pathlib import Path

from benchmarks import limits
from benchmarks.core_ai import WANTED, tables

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "coreai.json").read_text())


def test_the_tables_are_the_measurement_s() -> None:
    assert tables(MEASURED) in (ROOT / "docs" / "coreai.md").read_text()


def test_the_limits_hold_of_all_that_was_measured() -> None:
    judged = {(row["variant"], row["format"], row["precision"], row["n"]) for row in MEASURED["judged"]}
    wanted = {(variant, name, precision, n) for variant, name, precisions, n in WANTED for precision in precisions}
    assert judged <= wanted
    assert {item[:3] for item in judged} >= {("xxs", "coreai", "fp32"), ("xxs", "coreai", "fp16")}
    assert list(limits.coreai(MEASURED)) == []
