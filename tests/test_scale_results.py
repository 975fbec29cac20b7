"""The page of scaling is that of the recorded measurement; hours follow from it as the benchmark says."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import LOADING, MACHINES, PRECISIONS, REFERENCE, estimate, ratio, tables
from cloformer_deploy.backends.registry import BACKENDS, runtime_for

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())


def made(ceiling: float = 1e9, ray: float = 100.0) -> dict[str, Any]:
    """A measurement of two cores, 72 ms per image for one file, of which it takes 40 itself."""

    def run(last: float) -> dict[str, float]:
        return {"first_s": 0.0, "last_s": last}

    parts = ((LOADING, "", 2.0), (REFERENCE, "fp32", 30.0), ("Runtime", "int8", 40.0))
    return {
        "rates": [{"title": title, "precision": precision, "ms": ms} for title, precision, ms in parts],
        "overhead": {"workers": 2, "images": 116, "runs": {"ray": [run(ray)] * 3, "processes": [run(100.0)] * 3}},
        "ceiling_images_per_s": ceiling,
    }


def test_the_page_is_the_measurement_s() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    assert [table for table in tables(MEASURED).split("\n\n") if table not in page] == []


def test_every_runtime_and_precision_was_measured() -> None:
    found = {(item["title"], item["precision"]) for item in MEASURED["rates"]}
    formats = {item["format"] for item in MEASURED["rates"]} - {""}
    assert formats <= set(BACKENDS)
    assert found >= {(runtime_for(name).title, precision) for name in formats for precision in PRECISIONS}


def test_hours_of_machines_that_compute() -> None:
    one, four = (estimate(made(), ["int8"], machines) for machines in (1, 4))
    assert one["hours"] == pytest.approx(50_000 * 0.072 / 2 / 3600)
    assert four["hours"] == pytest.approx(one["hours"] / 4)
    assert four["core_hours"] == pytest.approx(one["core_hours"])
    assert one["bottleneck"] == "Runtime int8 (56%)"
    assert estimate(made(), ["fp32"], 1)["bottleneck"] == "PyTorch fp32 (94%)"


def test_overhead_makes_hours_longer_and_its_lack_not_shorter() -> None:
    plain, slower, faster = (estimate(made(ray=ray), ["int8"], 1)["hours"] for ray in (100, 110, 90))
    assert slower == pytest.approx(1.1 * plain)
    assert faster == plain


def test_hours_of_a_driver_that_cannot_hand_out_faster() -> None:
    found = [estimate(made(ceiling=100), ["int8"], machines) for machines in MACHINES]
    assert found[0]["bottleneck"] != "the driver" == found[-1]["bottleneck"]
    assert found[-1]["hours"] == pytest.approx(50_000 / 100 / 3600)
    assert found[-1]["core_hours"] == pytest.approx(128 * found[-1]["hours"])


def test_overhead_of_the_start_counts_less_with_more_images() -> None:
    measured = made(ray=100)
    measured["overhead"]["runs"]["ray"] = [{"first_s": 10.0, "last_s": 110.0}] * 3
    assert ratio(measured, 116) == pytest.approx(1.1)
    assert ratio(measured, 1016) == pytest.approx(1.01)
