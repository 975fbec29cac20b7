"""`CloAttention` as a layer of one's own network: it takes the weights of every copy, and every converter takes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.networks.cloformer import CloAttention
from tests.litert_convert import converted
from tests.own.copies import PluginAttention

FORMS = {
    "one global head": ((3, 1), (3,), 4),
    "several groups": ((1, 1, 2), (3, 5), 2),
    "local": ((4, 0), (7,), 4),
    "global": ((4,), (), 4),
    "no window": ((2, 2), (9,), 1),
}


def image() -> Tensor:
    return torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("qkv_bias", "proj_bias"), [(True, True), (False, False), (False, True)])
def test_weights_of_copies_load_strictly_and_give_the_same(form: str, qkv_bias: bool, proj_bias: bool) -> None:
    split, kernels, window = FORMS[form]
    theirs = PluginAttention(64, 4, split, kernels, window, qkv_bias, proj_bias=proj_bias).eval()
    ours = CloAttention(64, 4, split, kernels, window, qkv_bias=qkv_bias).eval()
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(ours(image()), theirs(image()), rtol=0, atol=1e-6)


def test_a_projection_without_bias_is_refused_where_ours_has_one() -> None:
    theirs = PluginAttention(64, 4, (3, 1), (3,), qkv_bias=True, proj_bias=False)
    with pytest.raises(RuntimeError, match=r"proj\.bias"):
        CloAttention(64, 4, (3, 1), (3,)).load_state_dict(theirs.state_dict())


def test_the_layer_can_be_saved_whole(tmp_path: Path) -> None:
    layer = CloAttention(64, 4, (3, 1), (3,)).eval()
    torch.save(layer, tmp_path / "layer.pth")
    again = torch.load(tmp_path / "layer.pth", weights_only=False)
    assert torch.equal(again(image()), layer(image()))


def by_trace(layer: CloAttention) -> NDArray[Any]:
    import coremltools as ct

    traced = torch.jit.trace(layer, image())  # type: ignore[no-untyped-call]
    return core_ml(ct.convert(traced, **core_ml_interface()))


def by_torch_export(layer: CloAttention) -> NDArray[Any]:
    import coremltools as ct

    return core_ml(ct.convert(torch.export.export(layer, (image(),)).run_decompositions({}), **core_ml_interface()))


def core_ml_interface() -> dict[str, Any]:
    import coremltools as ct

    inputs = [ct.TensorType(name="x", shape=image().shape)]
    exact = {"compute_precision": ct.precision.FLOAT32, "minimum_deployment_target": ct.target.iOS17}
    return {"inputs": inputs, "skip_model_load": True, **exact}


def core_ml(model: Any) -> NDArray[Any]:
    import tempfile

    from cloformer_deploy.backends.coreml.interpreter import Program

    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/layer.mlpackage")
        found = Program.load(Path(folder, "layer.mlpackage")).run({"x": image().numpy()})
    return np.asarray(next(iter(found.values())))


def by_litert(layer: CloAttention) -> NDArray[Any]:
    import tempfile

    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        reader = Interpreter(model_content=converted(layer, image(), Path(folder)))
    reader.allocate_tensors()
    reader.set_tensor(reader.get_input_details()[0]["index"], image().numpy())
    reader.invoke()
    return np.asarray(reader.get_tensor(reader.get_output_details()[0]["index"]))


def by_onnx(layer: CloAttention) -> NDArray[Any]:
    import onnxruntime

    program = torch.onnx.export(layer, (image(),), dynamo=True, input_names=["x"], verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    return np.asarray(session.run(None, {"x": image().numpy()})[0])


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # torch says that torch.jit.trace is old
@pytest.mark.parametrize("form", FORMS)
def test_coremltools_converts_the_traced_layer(form: str) -> None:
    check(form, by_trace)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # the converters' own
@pytest.mark.parametrize("convert", [by_torch_export, by_litert, by_onnx])
def test_every_converter_takes_the_layer_with_one_global_head(convert: Any) -> None:
    check("one global head", convert)


def check(form: str, convert: Any) -> None:
    split, kernels, window = FORMS[form]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = CloAttention(64, 4, split, kernels, window).eval()
    with torch.no_grad():
        np.testing.assert_allclose(convert(layer), layer(image()).numpy(), rtol=0, atol=1e-5)
