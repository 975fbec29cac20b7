"""A segmenter through every format: exported, validated, gated and blamed, whole and with planted mistakes."""

import base64
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.blame import blame, reexport
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import probe_images
from cloformer_deploy.data.rendered import render_scene
from cloformer_deploy.data.rendered.writing import write_masks
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.gate.judge import Cell
from cloformer_deploy.progress import Silent
from cloformer_deploy.report.html import Asked, gathered, page
from cloformer_deploy.report.html.pictures import SHOWN
from cloformer_deploy.validation import validate
from tests.artifacts import artifact_of
from tests.blame.planting import plant, weight_of
from tests.exporting.spoiling import edited, with_one
from tests.tiny import SCENES, SCENES_SIZE

pytestmark = pytest.mark.integration

LAYER = "segment.smoothing.1.3"
SCORE = 0.1877
"""Mean IoU of PyTorch on the first 12 test scenes."""


@pytest.fixture(scope="module")
def bundle(segmenter_bundle: Bundle) -> Bundle:
    return segmenter_bundle


@pytest.mark.parametrize("format_name", ["coreml", "tflite"])
def test_a_batch_of_two(format_name: str, tmp_path: Path) -> None:
    """Half a minute each: the upsampling and its layout depend on the batch, and ONNX's int8 file alone has two."""
    request = ExportRequest(
        (format_name,),
        weights=str(SCENES),
        height=SCENES_SIZE[0],
        width=SCENES_SIZE[1],
        batch=2,
        output=tmp_path / "bundle",
    )
    made = export(request, Silent())
    (artifact,), (check,) = made.bundle.manifest.artifacts, made.checks.values()
    assert artifact.outputs[0].shape == ((2, 21, 16, 24) if format_name == "coreml" else (2, 16, 24, 21))
    assert check.sqnr_db > 100


def judged(bundle: Bundle, count: int = 24) -> Cell:
    (cell,) = gate(bundle, None, count, DriftConfig(), None, None, {}, Silent()).cells
    return cell


def test_every_file_computes_the_segmenter(bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.task, manifest.num_classes, manifest.architecture["head"]) == ("segmentation", 21, "semantic_fpn")
    shapes = {(item.format, item.precision): item.outputs[0].shape for item in manifest.artifacts}
    assert shapes == {
        ("onnx", "fp32"): (1, 21, 16, 24),
        ("onnx", "int8"): (2, 21, 16, 24),
        ("coreml", "fp32"): (1, 21, 16, 24),
        ("tflite", "fp32"): (1, 16, 24, 21),
    }
    write_masks("test", range(12), SCENES_SIZE, tmp_path / "data", Silent())
    found = validate(bundle, tmp_path / "data", None, Silent())
    by_itself = validate(bundle, None, 12, Silent())
    assert found.reference == by_itself.reference
    assert found.reference.score is not None
    assert found.reference.score == pytest.approx(SCORE, abs=0.002)
    for verdict in found.artifacts:
        assert verdict.status == "passed", verdict
        assert verdict.found is not None
        assert verdict.found.agreement >= (0.97 if verdict.precision == "int8" else 0.9999)
        assert verdict.found.drop_ci95_pp is not None
        assert verdict.found.drop_ci95_pp[0] <= (verdict.found.drop_pp or 0) <= verdict.found.drop_ci95_pp[1]


def test_without_masks_there_is_no_score(bundle: Bundle, tmp_path: Path) -> None:
    write_masks("test", range(4), SCENES_SIZE, tmp_path / "data", Silent())
    found = validate(bundle, tmp_path / "data" / "images", None, Silent())
    assert found.reference.score is None
    assert all(item.found is not None and item.found.drop_pp is None for item in found.artifacts)


def test_the_gate_holds_files_to_a_baseline(bundle: Bundle, tmp_path: Path) -> None:
    first = gate(bundle, None, 24, DriftConfig(), None, None, {}, Silent())
    assert not first.failed
    assert first.new_baseline is not None
    again = gate(bundle, None, 24, DriftConfig(), first.new_baseline, None, {}, Silent())
    assert not again.failed
    (check,) = (item for item in again.cells[0].checks if item.name == "regression_pp")
    assert (check.outcome, check.value) == ("passed", 0)


def test_the_report_shows_maps(bundle: Bundle, tmp_path: Path) -> None:
    result = gate(bundle, None, 6, DriftConfig(), None, None, {}, Silent())
    found = gathered(bundle, result, (), Asked(limit=6), Silent())
    assert len(found.pictures) == SHOWN
    assert [item.artifact.path for item in found.pictures[0].artifacts] == [
        item.path for item in bundle.manifest.artifacts
    ]
    for row in found.pictures:
        assert row.truth is not None
        with Image.open(io.BytesIO(base64.b64decode(row.truth.partition(",")[2]))) as mask:
            assert np.array_equal(np.asarray(mask), render_scene("test", row.number - 1, *SCENES_SIZE).mask)
        assert all(item.share > (0.9 if item.artifact.precision == "int8" else 0.999) for item in row.artifacts)
    content = page(found)
    assert content.count("<img ") == SHOWN * (3 + 2 * len(bundle.manifest.artifacts))
    assert all(text in content for text in ("Maps", "beach ball", "#800000"))


@pytest.mark.parametrize("format_name", BACKENDS)
def test_a_planted_layer_fails_and_is_blamed_first(bundle: Bundle, tmp_path: Path, format_name: str) -> None:
    artifact = artifact_of(bundle, format_name, "fp32")
    reexported = reexport(bundle, artifact, tmp_path, None, Silent(), sound=bundle.path(artifact))
    spoiled = with_one(
        bundle, tmp_path, format_name, "fp32", lambda path: plant(path, LAYER, weight_of(reexported.reference, LAYER))
    )
    cell = judged(spoiled)
    assert {"agreement", "sqnr_db", "drop_pp"} <= {check.name for check in cell.checks if check.outcome == "failed"}
    assert cell.comparison is not None
    assert max(item.drop_pp for item in cell.comparison.classes) > 1
    pixels = probe_images(2, bundle.manifest.preprocessing)
    found = blame(spoiled, spoiled.manifest.artifacts[0], pixels, Silent(), reexported=reexported)
    assert found.layers[0].path == LAYER


def behind(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Put a node behind the one that gives the logits, whose name it takes; the class map is made of what it gives."""
    (index,) = (index for index, item in enumerate(model.graph.node) if "logits" in item.output)
    model.graph.node[index].output[:] = ["before"]
    model.graph.node.insert(index + 1, node)


def rotated(model: onnx.ModelProto) -> None:
    for item in model.graph.initializer:
        if ".segment.classify." in item.name:
            item.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(item), 1, axis=0), item.name))


def mirrored(model: onnx.ModelProto) -> None:
    values = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [3], "steps": [-1]}
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    behind(model, onnx.helper.make_node("Slice", ["before", *values], ["logits"]))


def moved(model: onnx.ModelProto) -> None:
    """Move the map down by one pixel: its first row is 0."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, -1, 0], np.int64), "pads"))
    behind(model, onnx.helper.make_node("Pad", ["before", "pads"], ["logits"]))


def aligned(model: onnx.ModelProto) -> None:
    *resized, _ = (node for node in model.graph.node if node.op_type == "Resize")  # the last makes the class map
    assert len(resized) == 3
    for node in resized:
        for attribute in node.attribute:
            if attribute.name == "coordinate_transformation_mode":
                attribute.s = b"align_corners"


MISTAKES = {
    "the labels are rotated by": rotated,
    "the map is mirrored left to right": mirrored,
    "the map is moved by one pixel down": moved,
    "upsampling aligns the corners": aligned,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_named(bundle: Bundle, tmp_path: Path, mistake: str) -> None:
    cell = judged(with_one(bundle, tmp_path, "onnx", "fp32", edited(MISTAKES[mistake])))
    assert cell.status == "failed"
    (cause,) = cell.causes
    assert cause.startswith(mistake)
