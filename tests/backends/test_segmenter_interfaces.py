"""Segmenters with `--input image` have what an app binds to: class maps, Xcode's preview, MediaPipe's metadata."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.base import CATEGORY_NAME, INPUT_NAME
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, RenderedScenes
from cloformer_deploy.data.masks import palette
from cloformer_deploy.data.rendered import SCENE_CLASSES
from cloformer_deploy.errors import ToolError
from cloformer_deploy.exporting.checks import _check_category
from cloformer_deploy.tasks.segmentation import LOGITS, classes_of
from tests.artifacts import artifact_of
from tests.backends.specs import spec
from tests.backends.tiny_models import tiny_model
from tests.conftest import OtherPython
from tests.tiny import SCENES_SIZE

pytestmark = pytest.mark.integration

COUNT = 4
MEDIAPIPE = """
import json, sys
import mediapipe, numpy
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageSegmenterOptions(
    base_options=BaseOptions(model_asset_path=sys.argv[1]), output_category_mask=True, output_confidence_masks=True
)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    found, totals = [], []
    for pixels in numpy.load(sys.argv[2]):
        result = segmenter.segment(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
        found.append(numpy.squeeze(result.category_mask.numpy_view()).copy())
        totals.append(float(sum(mask.numpy_view() for mask in result.confidence_masks).mean()))
    print(json.dumps({"labels": segmenter.labels, "totals": totals}))
numpy.save(sys.argv[3], numpy.stack(found))
"""


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    scenes = RenderedScenes("test", range(COUNT))
    (batch,) = scenes.batches(Preprocessing.published(*SCENES_SIZE, margin=False), COUNT)
    return batch.pixels


@pytest.mark.parametrize("format_name", ["onnx", "coreml"])
def test_the_class_map_is_that_of_the_logits(
    segmenter_bundle: Bundle, pixels: NDArray[np.uint8], format_name: str
) -> None:
    artifact = artifact_of(segmenter_bundle, format_name, "fp32")
    assert [(item.name, item.shape, item.dtype) for item in artifact.outputs] == [
        (LOGITS.name, (1, 21, 16, 24), "float32"),
        (CATEGORY_NAME, (1, *SCENES_SIZE), "int32"),
    ]
    session = runtime_for(format_name).open(segmenter_bundle.path(artifact))
    for image in pixels:
        found = session.run({INPUT_NAME: image[None]})
        assert np.mean(found[CATEGORY_NAME][0] == classes_of(found[LOGITS.name][0])) > 0.999
        assert len(np.unique(found[CATEGORY_NAME])) > 2


def test_core_ml_files_are_previewed_as_segmenters(segmenter_bundle: Bundle) -> None:
    path = segmenter_bundle.path(artifact_of(segmenter_bundle, "coreml", "fp32"))
    stored = BACKENDS["coreml"].describe(path).metadata
    assert stored["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    preview = json.loads(stored["com.apple.coreml.model.preview.params"])
    assert preview["labels"] == list(SCENE_CLASSES)
    assert preview["colors"][:3] == ["#000000", "#800000", "#008000"]
    assert len(preview["colors"]) == len(SCENE_CLASSES) <= len(palette())


def test_mediapipe_segments_with_the_tflite_file(
    segmenter_bundle: Bundle, pixels: NDArray[np.uint8], other_python: OtherPython, tmp_path: Path
) -> None:
    """Its own resizing of the scores differs from ours near edges: these maps are of 16 x 24 pixels."""
    path, python = segmenter_bundle.path(artifact_of(segmenter_bundle, "tflite", "fp32")), other_python("mediapipe")
    given, answer = tmp_path / "images.npy", tmp_path / "classes.npy"
    np.save(given, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    done = subprocess.run([python, "-c", MEDIAPIPE, path, given, answer], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["labels"] == list(SCENE_CLASSES)
    assert told["totals"] == pytest.approx([1] * COUNT, abs=1e-3)
    session = runtime_for("tflite").open(path)
    logits = [session.run({INPUT_NAME: image[None]})[LOGITS.name][0] for image in pixels]
    same = np.load(answer) == np.stack([classes_of(item) for item in logits])
    assert 0.9 < same.mean() < 0.995


def test_a_class_map_of_other_logits_is_refused(tmp_path: Path) -> None:
    asked = spec("onnx", tiny_model("Segmentation"), Preprocessing.published(32, 32), pixel_logits="logits")
    logits = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    category = classes_of(logits[0])[None].astype(np.float32)
    _check_category(tmp_path / "a.onnx", {"logits": logits, "category": category}, asked)
    with pytest.raises(ToolError, match=r"class map in a\.onnx has the class of its own logits on"):
        _check_category(tmp_path / "a.onnx", {"logits": logits, "category": category.swapaxes(1, 2)}, asked)
