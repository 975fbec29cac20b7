"""The page of own networks shows the recorded measurement."""

import json

from benchmarks.prepared import table
from tests.conftest import ROOT


def test_the_table_is_the_measurement_s() -> None:
    content = json.loads((ROOT / "benchmarks" / "results" / "prepared.json").read_text())
    assert table(content) in (ROOT / "docs" / "own-networks.md").read_text()
