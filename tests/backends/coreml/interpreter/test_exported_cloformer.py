"""Compare CloFormer as converted by coremltools with the PyTorch model; each precision is converted once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter import Program, compare_weights
from cloformer_deploy.backends.registry import lower
from cloformer_deploy.networks.cloformer import CloFormer
from tests.backends.coreml.interpreter.coreml_programs import WEIGHTS, coremltools, quiet
from tests.tiny import TINY

pytestmark = pytest.mark.integration

PRECISIONS = ("FLOAT32", "FLOAT16")


def randomized(model: CloFormer) -> CloFormer:
    """Give the model random weights with which each of its parts affects the output."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.2 * noise.abs())
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.1 * noise if tensor.ndim == 1 else noise / tensor[0].numel() ** 0.5)
        else:
            tensor.copy_(0.05 * noise)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> CloFormer:
    return randomized(CloFormer(TINY))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def logits(model: CloFormer, image: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(model(image).numpy())


@pytest.fixture(scope="module")
def expected_weights(model: CloFormer) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in lower(model, "coreml", "ane").state_dict().items()}


@pytest.fixture(scope="module")
def packages(model: CloFormer, image: Tensor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    ct = coremltools()
    folder = tmp_path_factory.mktemp("cloformer")
    with quiet():
        program = torch.export.export(lower(model, "coreml", "ane"), (image,)).run_decompositions({})
        for precision in PRECISIONS:
            passes = ct.PassPipeline.DEFAULT  # Each conversion needs its own, because it changes the object.
            # This pass converts a scale and shift to a batch_norm with variance 1 and epsilon 1e-5, whose results
            # are too small by a factor of 5e-6.
            passes.remove_passes({"common::fuse_elementwise_to_batchnorm"})
            ct.convert(
                program,
                inputs=[ct.TensorType("image", image.shape)],
                outputs=[ct.TensorType("logits")],
                minimum_deployment_target=ct.target.iOS17,
                compute_precision=getattr(ct.precision, precision),
                convert_to="mlprogram",
                pass_pipeline=passes,
                skip_model_load=True,
            ).save(str(folder / f"{precision}.mlpackage"))
    return {precision: folder / f"{precision}.mlpackage" for precision in PRECISIONS}


def sqnr_db(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the signal-to-quantization-noise ratio in dB."""
    signal = np.square(reference, dtype=np.float64).sum()
    return float(10 * np.log10(signal / np.square(reference.astype(np.float64) - other).sum()))


def run(package: Path, image: Tensor) -> NDArray[np.float32]:
    return np.asarray(Program.load(package).run({"image": image.numpy()})["logits"], np.float32)


def test_float32_matches_pytorch(packages: dict[str, Path], image: Tensor, logits: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(run(packages["FLOAT32"], image), logits, rtol=0, atol=1e-5)


def test_float16_sqnr(packages: dict[str, Path], image: Tensor, logits: NDArray[np.float32]) -> None:
    program = Program.load(packages["FLOAT16"])
    # The epsilon of rsqrt is excluded: it is a parameter of the operation and stays float32.
    constants = {name: value for name, value in program.constants.items() if "epsilon" not in name}
    assert {value.dtype for value in constants.values()} == {np.dtype(np.float16)}
    assert len(program.constants) - len(constants) == program.package.operators["rsqrt"]
    assert 54 < sqnr_db(logits, run(packages["FLOAT16"], image)) < 80


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_match_pytorch(
    packages: dict[str, Path], expected_weights: dict[str, NDArray[np.float32]], precision: str
) -> None:
    assert compare_weights(Program.load(packages[precision]), expected_weights) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zeroed_weights_are_reported(
    packages: dict[str, Path], expected_weights: dict[str, NDArray[np.float32]], tmp_path: Path, precision: str
) -> None:
    package = Path(shutil.copytree(packages[precision], tmp_path / "zeroed.mlpackage"))
    content = bytearray((package / WEIGHTS).read_bytes())
    kind = np.float16 if precision == "FLOAT16" else np.float32
    name = "layers.2.blocks.0.mlp.fc1.weight"
    start = content.index(expected_weights[name].astype(kind).tobytes())
    content[start : start + 512] = bytes(512)
    (package / WEIGHTS).write_bytes(content)
    (failure,) = compare_weights(Program.load(package), expected_weights)
    assert failure.startswith(f"{name}: {512 // np.dtype(kind).itemsize} of 9216 values differ")


def test_equal_weights_are_found(tmp_path: Path) -> None:
    """coremltools stores equal zero biases and unit scales once, or removes them where they have no effect."""
    ct = coremltools()
    model = CloFormer(TINY).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("bias"):
            tensor.zero_()
    model = lower(model, "coreml", "ane")
    with quiet():
        program = torch.export.export(model, (torch.zeros(1, 3, 64, 64),)).run_decompositions({})
        ct.convert(
            program,
            inputs=[ct.TensorType("image", (1, 3, 64, 64))],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16,
            convert_to="mlprogram",
            skip_model_load=True,
        ).save(str(tmp_path / "equal.mlpackage"))
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    failures = compare_weights(Program.load(tmp_path / "equal.mlpackage"), expected)
    assert failures == []
