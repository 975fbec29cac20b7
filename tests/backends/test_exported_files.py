"""Exported files describe themselves correctly: interface, operators, metadata."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from torch import Tensor

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.coreml.targets import IOS_TARGETS
from cloformer_deploy.backends.registry import BACKENDS, backend_of, default_target, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import BundleError
from cloformer_deploy.exporting.pipeline import Export
from cloformer_deploy.exporting.request import ExportRequest
from tests.artifacts import artifact_of
from tests.conftest import OtherPython
from tests.tasks.comparing import compared
from tests.tiny import TINY, as_trained

pytestmark = pytest.mark.integration

OLD_RUNTIME_IMAGES = 8
FP16_SIZES = [("onnx", 0.48, 0.56), ("coreml", 0.54, 0.6), ("tflite", 0.58, 0.65)]
OLD_RUNTIME = """
import sys
import numpy
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], numpy.load(sys.argv[2]))
interpreter.invoke()
numpy.save(sys.argv[3], interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""


@pytest.mark.parametrize("format_name", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_file_carries_its_own_description(image_bundle: Bundle, format_name: str, precision: str) -> None:
    manifest = image_bundle.manifest
    description = backend_of(image_bundle.path(artifact_of(image_bundle, format_name, precision))).describe(
        image_bundle.path(artifact_of(image_bundle, format_name, precision))
    )
    metadata = description.metadata
    assert description.precision == precision
    assert metadata["labels"] == list(manifest.labels or ())
    assert metadata["preprocessing"] == manifest.preprocessing.model_dump(mode="json")
    assert metadata["weights_sha256"] == manifest.weights.sha256
    assert metadata["tool_version"] == manifest.tool_version
    assert metadata["task"] == manifest.task == "classification"
    assert (metadata["variant"], metadata["target"]) == ("custom", default_target(format_name))
    (image,) = description.inputs
    shape = (1, 224, 224, 3) if format_name == "tflite" else (1, 3, 224, 224)
    assert (image.name, image.shape, image.dtype) == ("image", shape, "uint8")
    (logits,) = [tensor for tensor in description.outputs if tensor.name == "logits"]
    assert (logits.shape, logits.dtype) == ((1, 20), "float32")


@pytest.mark.parametrize(
    ("format_name", "low", "high"), [("onnx", 0.48, 0.56), ("coreml", 0.54, 0.6), ("tflite", 0.58, 0.65)]
)
def test_fp16_files_are_about_half_the_size(image_bundle: Bundle, format_name: str, low: float, high: float) -> None:
    """In a small network the graph, which is the same, weighs more than in a published one."""
    sizes = [artifact_of(image_bundle, format_name, precision).bytes for precision in ("fp16", "fp32")]
    assert low < sizes[0] / sizes[1] < high


def test_the_onnx_file_is_opset_20_and_has_no_trace_of_its_making(image_bundle: Bundle) -> None:
    import onnx

    path = image_bundle.path(artifact_of(image_bundle, "onnx", "fp32"))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    assert not any(node.metadata_props for node in model.graph.node)
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
    assert model.producer_name == "cloformer-deploy"


def test_the_core_ml_file_is_a_classifier_for_vision(image_bundle: Bundle) -> None:
    from cloformer_deploy.backends.coreml.interpreter import Program

    path = image_bundle.path(artifact_of(image_bundle, "coreml", "fp16"))
    assert sorted(item.name for item in path.iterdir()) == ["Data", "Manifest.json"]
    pixels = probe_images(1, image_bundle.manifest.preprocessing)
    found = Program.load(path).run({"image": pixels})
    logits = np.asarray(found["logits"])
    labels = image_bundle.manifest.labels or ()
    assert found["classLabel"] == labels[int(logits.argmax())]
    probabilities = cast(dict[str, float], found["classLabel_probs"])
    exponentials = np.exp(logits[0] - logits.max())
    expected = exponentials / exponentials.sum()
    np.testing.assert_allclose([probabilities[label] for label in labels], expected, atol=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tflite_runtime_2_14_gives_the_same_logits(
    image_bundle: Bundle, other_python: OtherPython, tmp_path: Path, precision: str
) -> None:
    path, python = image_bundle.path(artifact_of(image_bundle, "tflite", precision)), other_python("tflite-runtime")
    pixels = probe_images(1, image_bundle.manifest.preprocessing)
    given, answer = tmp_path / "image.npy", tmp_path / "logits.npy"
    np.save(given, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    subprocess.run([python, "-c", OLD_RUNTIME, path, given, answer], check=True, capture_output=True)
    expected = runtime_for("tflite").open(path).run({INPUT_NAME: pixels})["logits"]
    np.testing.assert_allclose(np.load(answer), expected, rtol=0, atol=1e-4)
    assert np.ptp(expected) > 1


def test_tflite_runtime_2_14_agrees_on_int8(tiny_bundle: Bundle, other_python: OtherPython, tmp_path: Path) -> None:
    """Its kernels round a few steps otherwise. Classes are the same wherever the best two are not near each other."""
    path, python = tiny_bundle.path(artifact_of(tiny_bundle, "tflite", "int8")), other_python("tflite-runtime")
    pixels = probe_images(OLD_RUNTIME_IMAGES, tiny_bundle.manifest.preprocessing)
    images = tiny_bundle.manifest.preprocessing.normalize(pixels)
    given, answer = tmp_path / "image.npy", tmp_path / "logits.npy"
    found = []
    for image in images:
        np.save(given, np.ascontiguousarray(image.transpose(1, 2, 0)[None]))
        subprocess.run([python, "-c", OLD_RUNTIME, path, given, answer], check=True, capture_output=True)
        found.append(np.load(answer)[0])
    session = runtime_for("tflite").open(path)
    runs = [session.run({INPUT_NAME: images[index : index + 1]})["logits"] for index in range(len(images))]
    here, there = np.concatenate(runs), np.stack(found)
    drift = compared(here, there)
    assert drift.sqnr_db is not None
    assert drift.sqnr_db > 25
    best = np.sort(here, axis=1)
    clear = best[:, -1] - best[:, -2] > 0.1 * (best[:, -1] - best[:, 0])
    assert clear.sum() > OLD_RUNTIME_IMAGES / 2
    assert (here.argmax(axis=1) == there.argmax(axis=1))[clear].all()


def test_tflite_files_use_built_in_operators_only(image_bundle: Bundle) -> None:
    description = BACKENDS["tflite"].describe(image_bundle.path(artifact_of(image_bundle, "tflite", "fp32")))
    assert not any("CUSTOM" in name or "FLEX" in name.upper() for name in description.operators)


def test_a_dynamic_batch_takes_any_size(
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    made = export_weights(
        as_trained(TINY, seed=1).state_dict(), ExportRequest(("onnx",), height=64, width=64, batch=None)
    )
    (artifact,) = made.bundle.manifest.artifacts
    path = made.bundle.path(artifact)
    session = runtime_for("onnx").open(path)
    images = made.bundle.manifest.preprocessing.normalize(probe_images(5, made.bundle.manifest.preprocessing))
    together = session.run({INPUT_NAME: images})["logits"]
    one_by_one = np.concatenate([session.run({INPUT_NAME: images[i : i + 1]})["logits"] for i in range(5)])
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1e-5)
    assert (session.batch, artifact.input.batch) == (None, "dynamic")
    assert backend_of(path).describe(path).inputs[0].shape == ("batch", 3, 64, 64)


@pytest.mark.parametrize("ios", [IOS_TARGETS[0], IOS_TARGETS[-1]])
def test_core_ml_files_for_the_oldest_and_newest_ios(
    ios: int,
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    request = ExportRequest(("coreml",), ("fp16",), height=64, width=64, options={"ios": ios}, input_kind="image")
    made = export_weights(as_trained(TINY, seed=1).state_dict(), request)
    (check,) = made.checks.values()
    assert 50 < check.sqnr_db < 90
    (artifact,) = made.bundle.manifest.artifacts
    assert artifact.options == {"ios": ios}
    (logits,) = BACKENDS["coreml"].describe(made.bundle.path(artifact)).outputs
    assert (logits.name, logits.dtype) == ("logits", "float32")


def test_a_package_without_its_weights_is_refused(image_bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "a.mlpackage"
    shutil.copytree(image_bundle.path(artifact_of(image_bundle, "coreml", "fp16")), copy)
    next(copy.rglob("weight.bin")).unlink()
    with pytest.raises(BundleError, match=r"a\.mlpackage: the package has no file 'weights/weight\.bin'"):
        BACKENDS["coreml"].describe(copy)


def test_files_cut_short_are_refused(image_bundle: Bundle, tmp_path: Path) -> None:
    for artifact in image_bundle.manifest.artifacts:
        copy = tmp_path / artifact.path
        source = image_bundle.path(artifact)
        if source.is_dir():
            shutil.copytree(source, copy)
            cut = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
        else:
            shutil.copy(source, copy)
            cut = copy
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        with pytest.raises(BundleError, match=r"damaged|not a readable|truncated|cannot"):
            backend_of(copy).describe(copy)
