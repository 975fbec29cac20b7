"""Tables in the documents are those that the figures beside them give."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.latency import CANDIDATES, speedups, table
from cloformer_deploy.lowering import LOWERINGS

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "latency.json").read_text())


def test_the_latency_table_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "README.md").read_text()


def test_every_candidate_was_measured_in_every_column() -> None:
    columns = {(item["variant"], item["threads"]) for item in MEASURED["results"]}
    assert columns == {(variant, threads) for variant in ("xxs", "s") for threads in (1, 2)}
    assert len(MEASURED["results"]) == len(columns) * len(CANDIDATES)


@pytest.mark.parametrize(
    ("variant", "faster", "slower", "limit"),
    [
        ("xxs", "onnxruntime", "onnxruntime plain", 1.06),
        ("s", "onnxruntime", "onnxruntime plain", 1.05),
        ("xxs", "litert", "litert plain", 1.22),
        ("s", "litert", "litert plain", 1.10),
        ("xxs", "litert", "onnxruntime plain", 1.0),
        ("s", "litert", "onnxruntime plain", 1.0),
        ("xxs", "onnxruntime", "openvino plain", 1.0),
    ],
)
def test_what_lowering_promises_is_what_was_measured(variant: str, faster: str, slower: str, limit: float) -> None:
    """Whoever measures anew and finds less has a regression to explain, not a table to replace."""
    assert statistics.median(speedups(MEASURED, variant, 1, faster, slower)) >= limit


def test_the_table_of_rewrites_is_that_of_the_lowerings() -> None:
    lines = (ROOT / "docs" / "lowering.md").read_text().splitlines()
    header = next(line for line in lines if line.startswith("| rewrite |"))
    targets = [tuple(cell.split()) for cell in header.strip("| ").split(" | ")[1:]]
    assert set(targets) == set(LOWERINGS)
    listed: dict[tuple[str, ...], set[str]] = {target: set() for target in targets}
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("| `"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for target, cell in zip(targets, cells, strict=True):
            if cell == "x":
                listed[target].add(name.split("`")[1])
    assert listed == {key: {rewrite.__name__ for rewrite in rewrites} for key, rewrites in LOWERINGS.items()}
