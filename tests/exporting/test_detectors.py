"""A detector through every format: exported, validated, gated, shown and blamed, whole and with planted mistakes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.blame import blame, reexport
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import probe_images
from cloformer_deploy.data.rendered.writing import write_coco
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.gate.judge import Cell
from cloformer_deploy.progress import Silent
from cloformer_deploy.report.html import Asked, gathered, page
from cloformer_deploy.report.html.pictures import SHOWN
from cloformer_deploy.validation import validate
from tests.artifacts import artifact_of
from tests.blame.planting import plant, weight_of
from tests.exporting.spoiling import edited, with_one
from tests.tiny import SCENES_SIZE

pytestmark = pytest.mark.integration

LAYER = "detect.distances.0.0.0"
SCORE = 0.1441
"""AP of PyTorch on the first 12 test scenes."""


def judged(bundle: Bundle, count: int = 24) -> Cell:
    (cell,) = gate(bundle, None, count, DriftConfig(), None, None, {}, Silent()).cells
    return cell


def test_every_file_computes_the_detector(detector_bundle: Bundle, tmp_path: Path) -> None:
    manifest = detector_bundle.manifest
    assert (manifest.task, manifest.num_classes, manifest.architecture["head"]) == ("detection", 20, "anchor_free")
    write_coco("test", range(12), SCENES_SIZE, tmp_path / "data", Silent())
    found = validate(detector_bundle, tmp_path / "data", None, Silent())
    by_itself = validate(detector_bundle, None, 12, Silent())
    assert found.reference == by_itself.reference
    assert found.reference.score == pytest.approx(SCORE, abs=0.002)
    assert len(found.artifacts) == 4
    for verdict in found.artifacts:
        assert verdict.status == "passed", verdict
        assert verdict.found is not None
        assert verdict.found.agreement >= (0.9 if verdict.precision == "int8" else 0.9999)
        assert verdict.found.drop_ci95_pp is not None
        assert verdict.found.drop_ci95_pp[0] <= (verdict.found.drop_pp or 0) <= verdict.found.drop_ci95_pp[1]


def test_without_boxes_there_is_no_score(detector_bundle: Bundle, tmp_path: Path) -> None:
    write_coco("test", range(4), SCENES_SIZE, tmp_path / "data", Silent())
    found = validate(detector_bundle, tmp_path / "data" / "images", None, Silent())
    assert found.reference.score is None
    assert all(item.found is not None and item.found.drop_pp is None for item in found.artifacts)


def test_the_gate_holds_files_to_a_baseline(detector_bundle: Bundle) -> None:
    first = gate(detector_bundle, None, 24, DriftConfig(), None, None, {}, Silent())
    assert not first.failed
    assert first.new_baseline is not None
    again = gate(detector_bundle, None, 24, DriftConfig(), first.new_baseline, None, {}, Silent())
    assert not again.failed
    (check,) = (item for item in again.cells[0].checks if item.name == "regression_pp")
    assert (check.outcome, check.value) == ("passed", 0)


def test_the_report_draws_boxes(detector_bundle: Bundle) -> None:
    result = gate(detector_bundle, None, 6, DriftConfig(), None, None, {}, Silent())
    found = gathered(detector_bundle, result, (), Asked(limit=6), Silent())
    assert len(found.pictures) == SHOWN
    assert [item.artifact.path for item in found.pictures[0].artifacts] == [
        item.path for item in detector_bundle.manifest.artifacts
    ]
    content = page(found)
    assert all(text in content for text in ("Detections", "beach ball"))


@pytest.mark.parametrize("format_name", BACKENDS)
def test_a_planted_layer_fails_and_is_blamed_first(detector_bundle: Bundle, tmp_path: Path, format_name: str) -> None:
    artifact = artifact_of(detector_bundle, format_name, "fp32")
    reexported = reexport(detector_bundle, artifact, tmp_path, None, Silent(), sound=detector_bundle.path(artifact))
    weight = weight_of(reexported.reference, LAYER)
    spoiled = with_one(detector_bundle, tmp_path, format_name, "fp32", lambda path: plant(path, LAYER, weight))
    cell = judged(spoiled)
    assert {"agreement", "sqnr_db"} <= {check.name for check in cell.checks if check.outcome == "failed"}
    pixels = probe_images(2, detector_bundle.manifest.preprocessing)
    found = blame(spoiled, spoiled.manifest.artifacts[0], pixels, Silent(), reexported=reexported)
    assert found.layers[0].path == LAYER


def behind(model: onnx.ModelProto, output: str, *nodes: onnx.NodeProto) -> None:
    """Put nodes behind the one that gives an output; the first takes `before`, the last gives the output."""
    (index,) = (index for index, item in enumerate(model.graph.node) if output in item.output)
    model.graph.node[index].output[:] = ["before"]
    for offset, node in enumerate(nodes, 1):
        model.graph.node.insert(index + offset, node)


def constant(model: onnx.ModelProto, name: str, value: object, dtype: type) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
    return name


def transposed(model: onnx.ModelProto) -> None:
    order = constant(model, "order", [1, 0, 3, 2], np.int64)
    behind(model, "boxes", onnx.helper.make_node("Gather", ["before", order], ["boxes"], axis=2))


def in_pixels(model: onnx.ModelProto) -> None:
    sides = constant(model, "sides", [96, 64, 96, 64], np.float32)
    behind(model, "boxes", onnx.helper.make_node("Mul", ["before", sides], ["boxes"]))


def sized(model: onnx.ModelProto) -> None:
    """Left, top, width and height."""
    half = constant(model, "half", [2, 2], np.int64)
    behind(
        model,
        "boxes",
        onnx.helper.make_node("Split", ["before", half], ["low", "high"], axis=2),
        onnx.helper.make_node("Sub", ["high", "low"], ["size"]),
        onnx.helper.make_node("Concat", ["low", "size"], ["boxes"], axis=2),
    )


def rotated(model: onnx.ModelProto) -> None:
    order = constant(model, "order", np.roll(np.arange(20), 1), np.int64)
    behind(model, "scores", onnx.helper.make_node("Gather", ["before", order], ["scores"], axis=2))


def before_sigmoid(model: onnx.ModelProto) -> None:
    inverse = (
        onnx.helper.make_node("Sub", [constant(model, "one", 1, np.float32), "before"], ["rest"]),
        onnx.helper.make_node("Div", ["before", "rest"], ["odds"]),
        onnx.helper.make_node("Log", ["odds"], ["scores"]),
    )
    behind(model, "scores", *inverse)


MISTAKES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "the boxes are transposed": transposed,
    "the boxes are in pixels": in_pixels,
    "the boxes are xywh (left, top, width, height)": sized,
    "the labels are rotated by": rotated,
    "the scores are logits: the sigmoid is missing": before_sigmoid,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_named(detector_bundle: Bundle, tmp_path: Path, mistake: str) -> None:
    cell = judged(with_one(detector_bundle, tmp_path, "onnx", "fp32", edited(MISTAKES[mistake])))
    assert cell.status == "failed"
    (cause,) = cell.causes
    assert cause.startswith(mistake)
