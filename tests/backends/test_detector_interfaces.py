"""Detectors with `--input image` end in what apps bind to: Vision's pipeline, MediaPipe's four outputs, ONNX's own."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.base import DETECTIONS, INPUT_NAME
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, RenderedScenes
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.tasks.boxes import detections
from tests.artifacts import artifact_of
from tests.conftest import OtherPython
from tests.tiny import SCENES_SIZE

pytestmark = pytest.mark.integration

COUNT = 4
CELLS = 8 * 12 + 4 * 6 + 2 * 3
SHAPES = {
    "onnx": {
        "boxes": (1, CELLS, 4),
        "scores": (1, CELLS, 20),
        "detection_boxes": ("detections", 4),
        "detection_scores": ("detections",),
        "detection_classes": ("detections",),
    },
    "coreml": {"confidence": ("any", 20), "coordinates": ("any", 4)},
    "tflite": {
        "detection_boxes": (1, 100, 4),
        "detection_classes": (1, 100),
        "detection_scores": (1, 100),
        "detection_count": (1,),
    },
}
MEDIAPIPE = """
import json, sys
import mediapipe, numpy
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), score_threshold=0.1)
found = []
with vision.ObjectDetector.create_from_options(options) as detector:
    for pixels in numpy.load(sys.argv[2]):
        result = detector.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
        found.append([
            (category.score, category.category_name, box.origin_x, box.origin_y, box.width, box.height)
            for item in result.detections for category, box in ((each, item.bounding_box) for each in item.categories)
        ])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    (batch,) = RenderedScenes("test", range(COUNT)).batches(Preprocessing.published(*SCENES_SIZE, margin=False), COUNT)
    return batch.pixels


@pytest.mark.parametrize("format_name", BACKENDS)
def test_files_detect_what_their_cells_say(
    detector_bundle: Bundle, pixels: NDArray[np.uint8], format_name: str
) -> None:
    artifact = artifact_of(detector_bundle, format_name, "fp32")
    assert {item.name: item.shape for item in artifact.outputs} == SHAPES[format_name]
    session = runtime_for(format_name).open(detector_bundle.path(artifact))
    for image in pixels:
        found = session.run({INPUT_NAME: image[None]})
        boxes, scores = found["boxes"][0], found["scores"][0]
        assert (boxes.shape, scores.shape) == ((CELLS, 4), (CELLS, 20))
        if format_name == "coreml":  # its suppression knows a box's best class only
            scores = scores * (scores == scores.max(axis=1, keepdims=True))
        expected = detections(boxes, scores)
        assert len(expected) > 5
        made_boxes, made_scores, made_classes = (found[name] for name in DETECTIONS)
        assert np.allclose(made_scores, expected.scores, atol=1e-6)
        assert np.array_equal(made_classes, expected.classes)
        assert np.allclose(made_boxes, expected.boxes, atol=1e-5)


def test_core_ml_ends_in_suppression_as_vision_asks(detector_bundle: Bundle) -> None:
    import coremltools as ct

    path = detector_bundle.path(artifact_of(detector_bundle, "coreml", "fp32"))
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    assert [model.WhichOneof("Type") for model in spec.pipeline.models] == ["mlProgram", "nonMaximumSuppression"]
    assert [item.name for item in spec.description.output] == ["confidence", "coordinates"]
    inputs = {item.name: item.type.isOptional for item in spec.description.input}
    assert inputs == {"image": False, "iouThreshold": True, "confidenceThreshold": True}
    suppression = spec.pipeline.models[1].nonMaximumSuppression
    assert list(suppression.stringClassLabels.vector) == list(CLASSES)
    described = BACKENDS["coreml"].describe(path)
    assert (described.metadata["task"], described.operators["conv"]) == ("detection", 79)


def test_mediapipe_detects_with_the_tflite_file(
    detector_bundle: Bundle, pixels: NDArray[np.uint8], other_python: OtherPython, tmp_path: Path
) -> None:
    path, python = detector_bundle.path(artifact_of(detector_bundle, "tflite", "fp32")), other_python("mediapipe")
    given = tmp_path / "images.npy"
    np.save(given, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    done = subprocess.run([python, "-c", MEDIAPIPE, path, given], check=True, capture_output=True, text=True)
    session = runtime_for("tflite").open(path)
    height, width = SCENES_SIZE
    total = 0
    for image, answer in zip(pixels, json.loads(done.stdout.splitlines()[-1]), strict=True):
        found = session.run({INPUT_NAME: image[None]})
        expected = detections(found["boxes"][0], found["scores"][0], least_score=0.1)
        answer.sort(key=lambda row: -row[0])  # it joins the classes of equal boxes
        assert [row[1] for row in answer] == [CLASSES[index] for index in expected.classes]
        assert [row[0] for row in answer] == pytest.approx(expected.scores, abs=1e-5)
        boxes = np.array([row[2:] for row in answer])  # left, top, width, height in whole pixels
        boxes[:, 2:] += boxes[:, :2]
        assert np.abs(boxes - expected.boxes * np.tile([width, height], 2)).max() < 2  # cut off twice
        total += len(answer)
    assert total > COUNT
