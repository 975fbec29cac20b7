"""Files for Ethos-U, compiled by Vela."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.backends.tflite.describe import enum_names
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration, probe_images
from cloformer_deploy.errors import BundleError, ToolError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.npu import npu_of
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from tests.tasks.comparing import compared
from tests.tiny import SCENE_BOXES, SCENES_SIZE, TRAINED

pytestmark = pytest.mark.integration


def file_of(bundle: Bundle, precision: str) -> Path:
    (found,) = (item for item in bundle.manifest.artifacts if item.precision == precision)
    return bundle.path(found)


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-512", "ethos-u85-2048"])
def test_nothing_stays_on_the_cpu(ethos_u_bundle: Bundle, name: str) -> None:
    compiled = npu_of(name).compile(file_of(ethos_u_bundle, "int8"))
    assert {item.unit for item in compiled.placement} == {"NPU"}
    assert compiled.npu_share == pytest.approx(1)
    assert sum(item.share_of_cycles or 0 for item in compiled.placement) == pytest.approx(1)
    assert compiled.estimate is not None
    assert 0.05 < compiled.estimate.ms < 50
    assert compiled.estimate.memory_bytes["SRAM"] > 10_000
    assert "MHz" in compiled.estimate.assumes
    assert sum(layer.cycles or 0 for layer in compiled.layers) > 1000


def test_larger_ones_are_estimated_to_be_faster(ethos_u_bundle: Bundle) -> None:
    path = file_of(ethos_u_bundle, "int8")
    estimates = [npu_of(name).compile(path).estimate for name in ("ethos-u85-256", "ethos-u85-1024")]
    slow, fast = (item.ms if item is not None else 0.0 for item in estimates)
    assert slow > 2 * fast > 0


def test_16_bits_leave_operators_on_the_cpu_and_the_manifest_says_so(ethos_u_bundle: Bundle) -> None:
    (w8a16,) = (item for item in ethos_u_bundle.manifest.artifacts if item.precision == "w8a16")
    compiled = npu_of("ethos-u55-256").compile(ethos_u_bundle.path(w8a16))
    left = [item for item in compiled.placement if item.unit == "CPU"]
    assert {item.operator for item in left} >= {"Gelu"}
    assert all(item.reason not in ("", "Vela gives no reason") for item in left)
    assert w8a16.npus is not None
    said = {item.device: item.left_on_cpu for item in w8a16.npus}
    assert said["ethos-u55-256"] == sum(item.count for item in left)
    assert all(said.values())


def test_the_manifest_says_who_was_asked(ethos_u_bundle: Bundle) -> None:
    (int8,) = (item for item in ethos_u_bundle.manifest.artifacts if item.precision == "int8")
    assert int8.npus is not None
    assert {item.device: item.left_on_cpu for item in int8.npus} == {
        "ethos-u55-256": 0,
        "ethos-u65-512": 0,
        "ethos-u85-1024": 0,
    }
    assert {item.compiler for item in int8.npus} == {npu_of("ethos-u55-256").compiler}


def test_the_interface_is_integer_and_sessions_take_floats(ethos_u_bundle: Bundle) -> None:
    path = file_of(ethos_u_bundle, "int8")
    description = BACKENDS["tflite"].describe(path)
    assert [item.dtype for item in (*description.inputs, *description.outputs)] == ["int8", "int8"]
    preprocessing = ethos_u_bundle.manifest.preprocessing
    images = preprocessing.normalize(probe_images(1, preprocessing))
    logits = runtime_for("tflite").open(path).run({INPUT_NAME: images})["logits"]
    tensors = BACKENDS["tflite"].open_tensors(path).run({INPUT_NAME: images})
    (same,) = (item.values for name, item in tensors.items() if name.startswith("logits:"))
    assert logits.dtype == np.float32
    assert np.abs(logits - same).max() <= 0.1 * np.abs(logits).max()


def test_a_damaged_file_is_refused_before_vela_sees_it(ethos_u_bundle: Bundle, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(file_of(ethos_u_bundle, "int8").read_bytes()[:50_000])
    with pytest.raises(BundleError, match="damaged"):
        npu_of("ethos-u55-256").compile(damaged)


def test_what_vela_cannot_compile_is_told_in_its_words(ethos_u_bundle: Bundle) -> None:
    """No file is known that our reader accepts and Vela does not, so it is asked for a system that it does not know."""
    from dataclasses import replace

    from cloformer_deploy.npu.ethos_u import ETHOS_US

    with pytest.raises(ToolError, match=r"Vela cannot compile .*Unknown") as refused:
        replace(ETHOS_US[0], system="Unknown").compile(file_of(ethos_u_bundle, "int8"))
    assert "--target ethos-u" in refused.value.hint


@pytest.mark.parametrize(("precision", "integer"), [("int8", "INT8"), ("w8a16", "INT16")])
def test_files_hold_nothing_but_integers(ethos_u_bundle: Bundle, precision: str, integer: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph = load_model(file_of(ethos_u_bundle, precision)).subgraphs[0]
    names = enum_names(schema.TensorType)
    computed = {int(index) for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    assert {names[graph.tensors[index].type] for index in computed} == {integer}


@pytest.mark.parametrize(("precision", "least_db"), [("int8", 18.0), ("w8a16", 28.0)])
def test_files_compute_the_model(ethos_u_bundle: Bundle, precision: str, least_db: float) -> None:
    preprocessing = ethos_u_bundle.manifest.preprocessing
    images = preprocessing.normalize(probe_images(3, preprocessing))
    with torch.inference_mode():
        expected = build_model(load_checkpoint(TRAINED))(torch.from_numpy(images)).numpy()
    session = runtime_for("tflite").open(file_of(ethos_u_bundle, precision))
    found = np.concatenate([session.run({INPUT_NAME: image[None]})["logits"] for image in images])
    sqnr_db = compared(expected, found).sqnr_db
    assert sqnr_db is not None
    assert least_db < sqnr_db < 75


def test_a_detector_is_integer_throughout_and_finds_the_same(tmp_path: Path) -> None:
    """Worth its 12 s: a range that is not known once made detectors for Ethos-U find nothing at all."""
    height, width = SCENES_SIZE
    calibration = tmp_path / "calibration.safetensors"
    make_calibration("scenes", 16, 0, Preprocessing.published(height, width, margin=False), calibration, Silent())
    request = ExportRequest(
        ("tflite",),
        ("int8",),
        weights=str(SCENE_BOXES),
        target="ethos-u",
        options={"integer_io": True},
        calibration=calibration,
        height=height,
        width=width,
        output=tmp_path / "bundle",
    )
    made = export(request, Silent())
    (artifact,) = made.bundle.manifest.artifacts
    assert artifact.npus is not None
    assert [item.left_on_cpu for item in artifact.npus] == [0, 0, 0]
    assert {item.dtype for item in artifact.outputs} == {"int16"}
    (check,) = made.checks.values()
    assert 25 < check.sqnr_db < 60
