"""The page of INT8 results is that of the recorded measurement, which has every recipe that is offered."""

import json
from pathlib import Path

from benchmarks.int8 import PHOTOGRAPHS, tables
from cloformer_deploy.backends.registry import DEFAULT_FORMATS, default_target, target_of
from cloformer_deploy.weights.zoo import DEFAULT

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "int8.json").read_text())
MODELS = {model["weights"]: model for model in MEASURED["accuracy"]}


def test_the_page_is_the_measurement_s() -> None:
    assert tables(MEASURED) in (ROOT / "docs" / "int8.md").read_text()


def test_every_recipe_of_every_shipped_model_was_measured() -> None:
    assert set(MODELS) == {DEFAULT, PHOTOGRAPHS}
    offered = {
        (name, precision) for name in DEFAULT_FORMATS for precision in target_of(name, default_target(name)).recipes
    }
    for model in MODELS.values():
        assert {(row["format"], row["precision"]) for row in model["artifacts"]} == offered
