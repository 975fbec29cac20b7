"""Pipelines that end in non-maximum suppression: run by its definition, refused where they are malformed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.base import DETECTIONS
from cloformer_deploy.backends.coreml.detections import CELLS, VISION, in_common_form
from cloformer_deploy.backends.coreml.interpreter import Package, Program
from cloformer_deploy.tasks.boxes import LEAST_SCORE, detections
from tests.backends.coreml.interpreter.coreml_programs import assert_rejected, build_pipeline, edit
from tests.tasks.detecting import CELLS as COUNT
from tests.tasks.detecting import CLASSES, objects, outputs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline whose program passes scores and boxes on."""
    return build_pipeline(tmp_path_factory.mktemp("pipeline") / "pipeline.mlpackage", COUNT, CLASSES)


def centered(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def test_it_keeps_what_the_task_keeps_of_each_cells_best_class(original: Path) -> None:
    program = Program.load(original)
    made = outputs(objects(50, 0), 1, noise=0.03, clutter=40)
    for boxes, scores in zip(made["boxes"], made["scores"], strict=True):
        found = program.run({"x": scores, "y": centered(boxes)})
        common = in_common_form(cast(dict[str, NDArray[Any]], found))
        expected = detections(boxes, scores * (scores == scores.max(axis=1, keepdims=True)))
        assert np.array_equal(common[DETECTIONS[1]], expected.scores)
        assert np.array_equal(common[DETECTIONS[2]], expected.classes)
        assert np.allclose(common[DETECTIONS[0]], expected.boxes, atol=1e-6)
        assert np.allclose(common["boxes"][0], boxes, atol=1e-6)
        assert np.array_equal(common["scores"][0], scores)


def test_nothing_above_the_threshold(original: Path) -> None:
    scores, boxes = np.full((COUNT, CLASSES), LEAST_SCORE / 2, np.float32), np.zeros((COUNT, 4), np.float32)
    found = in_common_form(cast(dict[str, NDArray[Any]], Program.load(original).run({"x": scores, "y": boxes})))
    assert [found[name].shape for name in DETECTIONS] == [(0, 4), (0,), (0,)]


def test_without_classes_boxes_of_all_classes_suppress_one_another(original: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(original, tmp_path / "copy.mlpackage"))
    edit(copy, lambda spec: spec.pipeline.models[1].nonMaximumSuppression.pickTop.Clear())
    scores = np.zeros((COUNT, CLASSES), np.float32)
    scores[0, 0], scores[1, 1] = 0.9, 0.8
    boxes = np.tile(np.array([0.5, 0.5, 0.2, 0.2], np.float32), (COUNT, 1))
    assert len(np.asarray(Program.load(original).run({"x": scores, "y": boxes})[VISION[0]])) == 2
    assert len(np.asarray(Program.load(copy).run({"x": scores, "y": boxes})[VISION[0]])) == 1


def test_its_interface(original: Path) -> None:
    package = Package.load(original)
    assert [item.name for item in package.inputs] == ["x", "y"]
    assert [(item.name, item.kind) for item in package.optional] == [
        ("iouThreshold", "double"),
        ("confidenceThreshold", "double"),
    ]
    assert [(item.name, item.shape) for item in package.outputs] == [
        ("confidence", (-1, CLASSES)),
        ("coordinates", (-1, 4)),
    ]
    assert [item.name for item in package.computed] == list(CELLS)


def suppression(spec: Any) -> Any:
    return spec.pipeline.models[1].nonMaximumSuppression


MISTAKES: dict[str, Callable[[Any], None]] = {
    "a pipeline of 'nonMaximumSuppression'": lambda spec: spec.pipeline.models.__delitem__(0),
    "a pipeline of ''": lambda spec: spec.pipeline.ClearField("models"),
    "lacks the input or output 'wrong'": lambda spec: setattr(suppression(spec), "confidenceInputFeatureName", "wrong"),
    "thresholds 0.01 and 2, outside": lambda spec: setattr(suppression(spec), "iouThreshold", 2.0),
    "thresholds nan and": lambda spec: setattr(suppression(spec), "confidenceThreshold", float("nan")),
    "reads what the program does not compute": lambda spec: setattr(
        spec.pipeline.models[0].description.output[0], "name", "other"
    ),
    "outputs are not those of its suppression": lambda spec: spec.description.output.__delitem__(0),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_malformed_pipelines(original: Path, tmp_path: Path, words: str) -> None:
    copy = Path(shutil.copytree(original, tmp_path / "copy.mlpackage"))
    assert_rejected(edit(copy, MISTAKES[words]), words)
