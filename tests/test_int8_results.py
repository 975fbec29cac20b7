"""The page of INT8 results is that of the recorded measurement, and the measurement holds what INT8 promises.

Whoever measures anew and finds less has a regression to explain, not a table to replace.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.int8 import FRESH, PHOTOGRAPHS, tables
from benchmarks.latency import speedups
from cloformer_deploy.backends.registry import BACKENDS, default_target
from cloformer_deploy.quantization.recipes import INT8
from cloformer_deploy.weights.zoo import DEFAULT

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "int8.json").read_text())
MODELS = {model["weights"]: model for model in MEASURED["accuracy"]}


def _int8(weights: str) -> dict[str, dict[str, Any]]:
    return {row["format"]: row for row in MODELS[weights]["artifacts"] if row["precision"] == INT8}


def test_the_page_is_the_measurement_s() -> None:
    assert tables(MEASURED) in (ROOT / "docs" / "int8.md").read_text()


def test_every_recipe_of_every_shipped_model_was_measured() -> None:
    assert set(MODELS) == {DEFAULT, PHOTOGRAPHS}
    offered = {
        (name, precision) for name, item in BACKENDS.items() for precision in item.targets[default_target(name)].recipes
    }
    for model in MODELS.values():
        assert {(row["format"], row["precision"]) for row in model["artifacts"]} == offered


@pytest.mark.parametrize(("format_name", "agreement"), [("tflite", 0.99), ("onnx", 0.985), ("coreml", 0.985)])
def test_int8_is_as_accurate_on_photographs(format_name: str, agreement: float) -> None:
    row = _int8(PHOTOGRAPHS)[format_name]
    assert row["n"] == 1000
    assert row["drop_pp"] <= 0.4
    assert row["agreement"] >= agreement


@pytest.mark.parametrize("format_name", BACKENDS)
def test_int8_is_as_accurate_on_fresh_rendered_images(format_name: str) -> None:
    row = _int8(DEFAULT)[format_name]
    assert row["n"] == len(FRESH) == 5000
    assert row["drop_pp"] <= 0.25
    low, high = row["drop_ci95_pp"]
    assert -0.5 <= low < high <= 0.5


@pytest.mark.parametrize("weights", MODELS)
def test_the_formats_int8_files_agree(weights: str) -> None:
    assert len(MODELS[weights]["int8_agreement"]) == 3
    assert min(MODELS[weights]["int8_agreement"].values()) >= 0.98


@pytest.mark.parametrize("weights", MODELS)
def test_int8_is_small(weights: str) -> None:
    assert max(row["size_ratio"] for row in _int8(weights).values()) <= 0.37


@pytest.mark.parametrize(
    ("variant", "faster", "slower", "limit"),
    [
        (DEFAULT, "litert int8", "litert", 1.85),
        ("s", "litert int8", "litert", 2.35),
        (DEFAULT, "onnxruntime int8", "onnxruntime", 1.35),
        ("s", "onnxruntime int8", "onnxruntime", 1.75),
        (DEFAULT, "litert int8", "onnxruntime plain", 1.9),
        ("s", "litert int8", "onnxruntime plain", 2.4),
    ],
)
def test_int8_is_fast(variant: str, faster: str, slower: str, limit: float) -> None:
    assert statistics.median(speedups(MEASURED, variant, 1, faster, slower)) >= limit
