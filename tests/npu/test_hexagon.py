"""Files for Hexagon, compiled by the vendor's compiler and run in its simulator."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.backends.onnx.tensors import OnnxTensors
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import MANIFEST_NAME
from cloformer_deploy.data import Preprocessing, make_calibration, probe_images
from cloformer_deploy.errors import ToolError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.npu import npu_of
from cloformer_deploy.progress import Silent
from tests.cli.command_line import invoke, parsed
from tests.npu.conftest import WIDE
from tests.tiny import SCENE_BOXES, SCENES_SIZE

pytestmark = pytest.mark.integration

IMAGES = 4
CONVOLUTIONS = ("Conv2d", "DepthWiseConv2d")


@pytest.fixture(scope="session")
def int8(hexagon_bundle: Bundle) -> Path:
    (found,) = (item for item in hexagon_bundle.manifest.artifacts if item.precision == "int8")
    return hexagon_bundle.path(found)


@pytest.fixture(scope="session")
def images(hexagon_bundle: Bundle) -> NDArray[np.float32]:
    preprocessing = hexagon_bundle.manifest.preprocessing
    return preprocessing.normalize(probe_images(IMAGES, preprocessing))


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


def on_cpu(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = runtime_for("onnx").open(path)
    return np.concatenate([session.run({INPUT_NAME: image[None]})["logits"] for image in images])


def simulated(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    simulator = npu_of("hexagon-v75").simulator
    assert simulator is not None
    session = simulator.open(path)
    assert session.batch is None
    return np.asarray(session.run({INPUT_NAME: images})["logits"], np.float32)


def softmax_error(bits: int, path: Path) -> float:
    """By how much the simulator's softmax of nearly equal logits is too large, of its sum."""
    logits = np.random.default_rng(0).normal(0, 0.05, (1, 1, 64, 49)).astype(np.float32)
    levels, largest = 2**bits - 1, 1 / 40
    grids = {"in": (0.5 / levels, 2 ** (bits - 1)), "out": (largest / levels, 0)}
    kind = np.uint8 if bits == 8 else np.uint16
    constants = [
        numpy_helper.from_array(np.asarray(value, dtype), f"{name}_{part}")
        for name, grid in grids.items()
        for part, value, dtype in (("scale", grid[0], np.float32), ("zero", grid[1], kind))
    ]

    def rounded(source: str, grid: str, result: str) -> list[onnx.NodeProto]:
        parameters = [f"{grid}_scale", f"{grid}_zero"]
        return [
            helper.make_node("QuantizeLinear", [source, *parameters], [f"{result}_q"]),
            helper.make_node("DequantizeLinear", [f"{result}_q", *parameters], [result]),
        ]

    softmax = helper.make_node("Softmax", ["rounded"], ["shares"], axis=-1)
    nodes = [*rounded(INPUT_NAME, "in", "rounded"), softmax, *rounded("shares", "out", "logits")]
    ends = [helper.make_tensor_value_info(name, 1, logits.shape) for name in (INPUT_NAME, "logits")]
    graph = helper.make_graph(nodes, "softmax", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return float(simulated(path, logits).sum() / on_cpu(path, logits).sum()) - 1


def test_the_softmax_has_16_bits_for_in_8_it_is_too_large(int8: Path, tmp_path: Path) -> None:
    assert softmax_error(8, tmp_path / "8.onnx") > 0.05
    assert abs(softmax_error(16, tmp_path / "16.onnx")) < 1e-3
    graph = load_model(int8).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {item.name: item for item in graph.initializer}
    zeros = [makers[node.input[0]].input[2] for node in graph.node if node.op_type == "Softmax"]
    assert zeros
    assert {numpy_helper.to_array(constants[name]).dtype for name in zeros} == {np.dtype(np.uint16)}


@pytest.mark.parametrize("name", ["hexagon-v69", "hexagon-v73"])
def test_nothing_stays_on_the_cpu(int8: Path, name: str) -> None:
    compiled = npu_of(name).compile(int8)
    assert {item.unit for item in compiled.placement} == {"NPU"}
    assert compiled.npu_share == pytest.approx(1)
    convolutions = {item.operator: item.count for item in compiled.placement if item.operator in CONVOLUTIONS}
    assert sum(convolutions.values()) == sum(node.op_type == "Conv" for node in load_model(int8).graph.node)
    assert compiled.bytes is not None
    assert compiled.bytes > int8.stat().st_size / 2


def test_the_simulator_computes_what_onnx_runtime_does(int8: Path, images: NDArray[np.float32]) -> None:
    assert cosine(simulated(int8, images), on_cpu(int8, images)) >= 0.999


def test_a_reciprocal_is_wrong_there(int8: Path, images: NDArray[np.float32], tmp_path: Path) -> None:
    """The reason for `normalize_by_division`: as x * (1 / s), the same numbers come out of ONNX Runtime alone."""
    planted = tmp_path / "planted.onnx"
    onnx.save(with_reciprocals(load_model(int8), images), planted)
    expected = on_cpu(int8, images)
    assert cosine(on_cpu(planted, images), expected) >= 0.99
    assert cosine(simulated(planted, images), expected) < 0.95


def test_a_planted_reciprocal_fails_validate(
    hexagon_bundle: Bundle, int8: Path, images: NDArray[np.float32], tmp_path: Path
) -> None:
    copy = shutil.copytree(hexagon_bundle.root, tmp_path / "bundle")
    onnx.save(with_reciprocals(load_model(int8), images), copy / int8.name)
    manifest = hexagon_bundle.manifest
    (sound,) = (item for item in manifest.artifacts if item.path == int8.name)
    planted = sound.model_copy(update={"sha256": digest(copy / int8.name), "npus": ()})
    listed = manifest.model_copy(update={"artifacts": (planted,)})
    (copy / MANIFEST_NAME).write_text(listed.model_dump_json())
    assert judged(hexagon_bundle.root, int8.name) == "passed"
    assert judged(copy, int8.name) == "failed"


def judged(bundle: Path, name: str) -> str:
    """The verdict of `validate` on a file in the simulator."""
    ended = invoke("validate", str(bundle), "--device", "hexagon-v75", "--limit", "16", "--json")
    (verdict,) = (item for item in parsed(ended.stdout)["artifacts"] if item["path"] == name)
    assert verdict["runtime"] == "qnn-simulator-v75"
    assert ended.code == (verdict["status"] == "failed")
    return str(verdict["status"])


def with_reciprocals(model: onnx.ModelProto, images: NDArray[np.float32]) -> onnx.ModelProto:
    """Write each division as a product with a reciprocal, quantized over what it has for the images."""
    tensors = [OnnxTensors(model).run({INPUT_NAME: image[None]}) for image in images]
    graph, nodes = model.graph, list(model.graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "Div":
            divisor = node.input[1]
            largest = max(float(1 / found[divisor].values.min()) for found in tensors)
            name = f"{node.name}_reciprocal"
            graph.initializer.append(
                numpy_helper.from_array(np.array(1.1 * largest / 255, np.float32), f"{name}_scale")
            )
            graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), f"{name}_zero"))
            grid = [f"{name}_scale", f"{name}_zero"]
            graph.node.append(helper.make_node("Reciprocal", [divisor], [name], name))
            graph.node.append(helper.make_node("QuantizeLinear", [name, *grid], [f"{name}_q"], f"{name}_q"))
            graph.node.append(helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [f"{name}_d"], f"{name}_d"))
            node.op_type, node.input[1] = "Mul", f"{name}_d"
        graph.node.append(node)
    return model


def test_a_float_file_is_refused_in_the_compilers_words(hexagon_bundle: Bundle) -> None:
    (floats,) = (item for item in hexagon_bundle.manifest.artifacts if item.precision == "fp32")
    npu = npu_of("hexagon-v75")
    assert not npu.takes(floats.key)
    with pytest.raises(ToolError, match="Failed to finalize QNN graph") as refused:
        npu.compile(hexagon_bundle.path(floats))
    assert "--precision int8" in refused.value.hint


def test_excluded_layers_have_16_bits_and_nothing_stays_on_the_cpu(
    mixed_bundle: Bundle, int8: Path, images: NDArray[np.float32]
) -> None:
    """Hexagon has no floats: what is excluded from int8 is computed in 16 bits, with conversions at its edges."""
    (mixed,) = mixed_bundle.manifest.artifacts
    path = mixed_bundle.path(mixed)
    assert mixed.excluded_layers == WIDE
    assert mixed.options == {"opset": 21}
    assert mixed.npus is not None
    assert [item.left_on_cpu for item in mixed.npus] == [0]
    types = Counter(item.data_type for item in load_model(path).graph.initializer if item.name.endswith("_zero_point"))
    assert types[onnx.TensorProto.UINT8] > 100
    assert 20 < types[onnx.TensorProto.UINT16] < types[onnx.TensorProto.UINT8]
    floats = on_cpu(next(int8.parent.glob("*fp32*.onnx")), images)
    assert cosine(simulated(path, images), on_cpu(path, images)) >= 0.999
    assert cosine(simulated(path, images), floats) > cosine(simulated(int8, images), floats)


@pytest.mark.parametrize(("precision", "least_db"), [("int8", 15.0), ("w8a16", 28.0)])
def test_the_simulator_was_compared_with_pytorch(hexagon_bundle: Bundle, precision: str, least_db: float) -> None:
    (found,) = (item for item in hexagon_bundle.manifest.artifacts if item.precision == precision)
    assert found.npus is not None
    (check,) = found.npus
    assert (check.device, check.left_on_cpu, check.simulated) == ("hexagon-v73", 0, 3)
    assert check.sqnr_db is not None
    assert least_db < check.sqnr_db < 75


@pytest.mark.parametrize("precision", ["int8", "w8a16"])
def test_whatever_is_computed_is_rounded(hexagon_bundle: Bundle, precision: str) -> None:
    (found,) = (item for item in hexagon_bundle.manifest.artifacts if item.precision == precision)
    graph = load_model(hexagon_bundle.path(found)).graph
    users: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node.op_type)
    outputs = {value.name for value in graph.output}
    unrounded = Counter(
        node.op_type
        for node in graph.node
        for name in node.output
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        and (name in outputs or set(users[name]) - {"QuantizeLinear"})
    )
    # A ReLU belongs to its convolution; what only moves numbers may do so a few times before they are rounded again.
    assert set(unrounded) <= {"Conv", "Reshape", "Transpose", "Split", "Slice", "Pad"}
    assert unrounded["Conv"] == 4


def test_a_detector_keeps_its_boxes_in_16_bits_and_nothing_on_the_cpu(tmp_path: Path) -> None:
    """Worth its 12 s: the only file with sigmoids, clips and a grid of coordinates, which is integer too."""
    height, width = SCENES_SIZE
    calibration = tmp_path / "calibration.safetensors"
    make_calibration("scenes", 16, 0, Preprocessing.published(height, width, margin=False), calibration, Silent())
    request = ExportRequest(
        ("onnx",),
        ("int8",),
        weights=str(SCENE_BOXES),
        target="hexagon",
        calibration=calibration,
        height=height,
        width=width,
        output=tmp_path / "bundle",
    )
    bundle = export(request, Silent()).bundle
    (made,) = bundle.manifest.artifacts
    assert made.options == {"opset": 21}
    assert made.npus is not None
    (check,) = made.npus
    assert check.left_on_cpu == 0
    assert check.sqnr_db is not None
    assert 20 < check.sqnr_db < 75
    graph = load_model(bundle.path(made)).graph
    bits = {item.name: item.data_type for item in graph.initializer}
    (boxes,) = (node for node in graph.node if node.output[0] == "boxes")
    assert bits[boxes.input[2]] == onnx.TensorProto.UINT16
