"""After `prepare` the exporters that people use take three networks with Clo attention, and the files run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from cloformer_deploy import prepare
from cloformer_deploy.networks.cloformer.finding import ratio_db
from tests.litert_convert import converted
from tests.own.networks import Listed, example, network

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # the converters' own warnings

Arrays = list[NDArray[Any]]
LEAST_DB = 110.0


def onnx_file(model: nn.Module, folder: Path) -> Arrays:
    import onnxruntime

    torch.onnx.export(model, (example(),), folder / "net.onnx", dynamo=True, input_names=["x"], verbose=False)
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"))
    return [np.asarray(item) for item in session.run(None, {"x": example().numpy()})]


def core_ml_by_trace(model: nn.Module, folder: Path) -> Arrays:
    return core_ml(torch.jit.trace(Listed(model), example()), folder)  # type: ignore[no-untyped-call]


def core_ml_by_export(model: nn.Module, folder: Path) -> Arrays:
    return core_ml(torch.export.export(Listed(model), (example(),)).run_decompositions({}), folder)


def core_ml(traced: Any, folder: Path) -> Arrays:
    import coremltools as ct

    from cloformer_deploy.backends.coreml.interpreter import Program

    inputs = [ct.TensorType(name="x", shape=example().shape)]
    made = ct.convert(
        traced,
        inputs=inputs,
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    made.save(str(folder / "net.mlpackage"))
    program = Program.load(folder / "net.mlpackage")
    found: Mapping[str, Any] = program.run({"x": example().numpy()})
    return [np.asarray(found[item.name]) for item in program.package.outputs]


def tflite_file(model: nn.Module, folder: Path) -> Arrays:
    from ai_edge_litert.interpreter import Interpreter

    reader = Interpreter(model_content=converted(Listed(model), example(), folder))
    runner = reader.get_signature_runner()
    (name,) = runner.get_input_details()
    found = runner(**{name: example().numpy()})
    assert max(len(item["shape"]) for item in reader.get_tensor_details()) <= 4
    return [np.asarray(found[key]) for key in sorted(found)]


EXPORTERS: dict[str, tuple[str, Callable[[nn.Module, Path], Arrays]]] = {
    "onnx": ("onnx", onnx_file),
    "coreml-trace": ("coreml", core_ml_by_trace),
    "coreml-export": ("coreml", core_ml_by_export),
    "tflite": ("tflite", tflite_file),
}


@pytest.mark.parametrize(
    ("name", "exporter"),
    [
        ("neck", "coreml-trace"),
        *(("unet", "coreml-trace"), ("unet", "tflite")),
        *(("resnet", "onnx"), ("resnet", "coreml-export")),
    ],
)
def test_files_of_prepared_networks_run_and_compute_the_same(name: str, exporter: str, tmp_path: Path) -> None:
    target, made = EXPORTERS[exporter]
    model = network(name)
    with torch.no_grad():
        expected = pytree.tree_leaves(model(example()))
    assert prepare(model, target, example()).changed
    found = made(model, tmp_path)
    assert len(found) == len(expected)
    for theirs in expected:  # an exporter may list them in another order
        fitting = [torch.from_numpy(item) for item in found if item.shape == tuple(theirs.shape)]
        assert max(ratio_db(theirs, item) for item in fitting) >= LEAST_DB


def test_as_written_coremltools_does_not_take_the_trace(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"pythonop|0-dimensional|not implemented"):
        core_ml_by_trace(network("neck"), tmp_path)
