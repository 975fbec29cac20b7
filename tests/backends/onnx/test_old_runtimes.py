"""Exported files run in ONNX Runtime 1.16 and 1.17 and in OpenCV 4.9, each in an environment of its own.

No check of the operators in a file shows that: ONNX Runtime 1.17 refuses any file of IR version 10, and OpenCV's
product neither repeats an operand over heads nor shares a constant with another. It costs one export of the small
network, 30 s on one core; what is in the default opset comes from the bundle that other tests use.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.backends.onnx.opsets import in_opset
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from tests.cli.command_line import spawn
from tests.conftest import OtherPython
from tests.tasks.comparing import compared
from tests.tiny import TRAINED, TRAINED_SIDE

pytestmark = pytest.mark.integration

IMAGES = 4
PROGRAM = """
import sys
import numpy

runtime, model, given, answer = sys.argv[1:]
images = numpy.load(given)
if runtime == "opencv":
    import cv2

    net = cv2.dnn.readNetFromONNX(model)
    found = []
    for image in images:
        net.setInput(image[None], "image")
        found.append(net.forward("logits"))
else:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact products, as in our own sessions
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = [session.run(["logits"], {"image": image[None]})[0] for image in images]
numpy.save(answer, numpy.concatenate(found))
"""
RUNTIMES = {
    "onnxruntime-1.16": "onnxruntime-1.16",
    "onnxruntime-1.17": "onnxruntime-1.17",
    "opencv": "onnxruntime-1.16",
}
"""The environments that they are in."""

Logits = NDArray[np.float32]
Runner = Callable[[str, Path, NDArray[Any]], Logits]


@pytest.fixture
def run(other_python: OtherPython, tmp_path: Path) -> Runner:
    """`run("opencv", path, images)`: the logits that an old runtime computes, image by image."""

    def logits(runtime: str, path: Path, images: NDArray[Any]) -> Logits:
        given, answer = tmp_path / "images.npy", tmp_path / "logits.npy"
        np.save(given, images)
        python = other_python(RUNTIMES[runtime])
        done = subprocess.run(
            [python, "-c", PROGRAM, runtime, path, given, answer], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return np.asarray(np.load(answer), np.float32)

    return logits


def images_for(preprocessing: Preprocessing) -> NDArray[np.float32]:
    return preprocessing.normalize(probe_images(IMAGES, preprocessing))


def today(path: Path, images: NDArray[np.float32]) -> Logits:
    session = runtime_for("onnx").open(path)
    return np.concatenate([session.run({INPUT_NAME: image[None]})["logits"] for image in images])


def listed(bundle: Bundle, precision: str) -> Path:
    (found,) = [a for a in bundle.manifest.artifacts if (a.format, a.precision) == ("onnx", precision)]
    return bundle.path(found)


@pytest.fixture(scope="module")
def bundle_17(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("opset-17")
    what = ("--weights", TRAINED, "--input-size", TRAINED_SIDE, "--format", "onnx", "--opset", 17)
    made = spawn("export", *what, "--precision", "fp32", "--precision", "fp16", "--output", "bundle", cwd=folder)
    assert made.code == 0, made.stderr
    return Bundle.open(folder / "bundle")


@pytest.fixture(scope="module")
def int8_17(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported int8 file in opset 17, by the step that `--opset` adds to its export."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    onnx.save(in_opset(load_model(listed(tiny_bundle, "int8")), 17), path)
    return path


def test_the_file_is_as_its_manifest_says(bundle_17: Bundle) -> None:
    for artifact in bundle_17.manifest.artifacts:
        model = load_model(bundle_17.path(artifact))
        assert artifact.options == {"opset": 17}
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
        assert model.ir_version == 8
        operators = {node.op_type for node in model.graph.node}
        assert "Erf" in operators
        assert "Gelu" not in operators
        metadata = {item.key: item.value for item in model.metadata_props}
        assert json.loads(metadata["cloformer_deploy.labels"]) == list(bundle_17.manifest.labels or ())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_opset_17_gives_pytorch_s_logits(bundle_17: Bundle, run: Runner, runtime: str) -> None:
    images = images_for(bundle_17.manifest.preprocessing)
    with torch.inference_mode():
        expected = build_model(load_checkpoint(TRAINED))(torch.from_numpy(images)).numpy()
    assert np.ptp(expected) > 1
    found = run(runtime, listed(bundle_17, "fp32"), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_opset_17_in_float16(bundle_17: Bundle, run: Runner, runtime: str) -> None:
    images = images_for(bundle_17.manifest.preprocessing)
    path = listed(bundle_17, "fp16")
    np.testing.assert_allclose(run(runtime, path, images), today(path, images), rtol=0, atol=5e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_opset_17_in_int8(tiny_bundle: Bundle, int8_17: Path, run: Runner, runtime: str) -> None:
    """Per-channel pairs of QuantizeLinear and DequantizeLinear: integers in ONNX Runtime, floats in OpenCV."""
    images = images_for(tiny_bundle.manifest.preprocessing)
    expected = today(listed(tiny_bundle, "int8"), images)
    drift = compared(expected, run(runtime, int8_17, images))
    assert drift.agreement == 1
    assert drift.sqnr_db is not None
    assert drift.sqnr_db > 25


@pytest.mark.parametrize("runtime", ["onnxruntime-1.17", "opencv"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_default_opset(tiny_bundle: Bundle, run: Runner, precision: str, runtime: str) -> None:
    path = listed(tiny_bundle, precision)
    model = load_model(path)
    assert (model.opset_import[0].version, model.ir_version) == (20, 9)
    images = images_for(tiny_bundle.manifest.preprocessing)
    drift = compared(today(path, images), run(runtime, path, images))
    assert drift.agreement == 1
    assert drift.sqnr_db is not None
    assert drift.sqnr_db > (25 if precision == "int8" else 50)


def test_the_default_opset_is_too_new_for_1_16(tiny_bundle: Bundle, run: Runner) -> None:
    """As docs/export.md says."""
    images = images_for(tiny_bundle.manifest.preprocessing)
    with pytest.raises(RuntimeError, match="till opset 19"):
        run("onnxruntime-1.16", listed(tiny_bundle, "fp32"), images)
