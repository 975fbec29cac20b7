"""Apple's beta packages are those that are pinned, and do what `api.py` takes for granted of them."""

import asyncio
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloformer_deploy.backends.coreai import api, process
from cloformer_deploy.backends.coreai.constants import dense, stored
from cloformer_deploy.backends.coreai.program import CONSTANT, Value
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

PINNED = {"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"}


class Padded(nn.Module):
    """A convolution with a border, of which another number of columns is cut off at the other end, and a product."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (1, 0, 0, 2), value=0.5)
        found: Tensor = self.linear(self.conv(padded).mean(dim=(2, 3)))
        return found


class Compressed(nn.Module):
    """Rounded inputs, and weights as integers and in a table of 64 values."""

    integers: Tensor
    scales: Tensor
    indices: Tensor
    lut: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        self.register_buffer("integers", torch.from_numpy(generator.integers(-127, 128, (6, 4), np.int8)))
        self.register_buffer("scales", torch.from_numpy(generator.uniform(0.01, 0.1, (6, 1)).astype(np.float32)))
        self.register_buffer("indices", torch.from_numpy(generator.integers(0, 64, (5, 6), np.uint8)))
        self.register_buffer("lut", torch.linspace(-1, 1, 64).reshape(1, 1, 64, 1))
        self.register_buffer("scale", torch.tensor(0.02))
        self.register_buffer("zero_point", torch.tensor(-7, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        rounded = api.operator("quantize")(x, self.scale, torch.int8, self.zero_point)
        given = api.operator("dequantize")(rounded, self.scale, self.zero_point)
        first = given @ api.operator("constexpr_blockwise_shift_scale")(self.integers, self.scales).T
        out: Tensor = first @ api.operator("lut_to_dense")(self.indices, self.lut, 0).T
        return out


def converted(module: nn.Module, example: Tensor, path: Path) -> Path:
    api.convert(module.eval(), (example,), (["image"], ["y"]), path, "a test")
    api.add_metadata(path, {"key": "ä"})
    return path


def test_the_installed_versions_are_the_pinned_ones() -> None:
    """Whoever changes a pin runs this file: it says what the newer version does otherwise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = {item.partition(";")[0].strip() for item in project["coreai"]}
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    for name, number in PINNED.items():
        assert version(name) == number
        assert f"{name}=={number}" in listed
        assert f"{name}=={number}" in constraints


def test_a_program_is_read_as_it_was_written(tmp_path: Path) -> None:
    module = Padded()
    program = process.read(converted(module, torch.zeros(1, 3, 6, 8), tmp_path / "a.aimodel"))
    assert program.inputs == (Value("image", (1, 3, 6, 8), "float32"),)
    assert program.outputs == (Value("y", (1, 5), "float32"),)
    assert program.metadata == {"key": "ä"}
    computed = [item for item in program.operations if item.type != CONSTANT]
    kinds = [item.type for item in computed]
    assert kinds == ["pad", "pad", "conv2d", "add", "reduce_mean", "conv2d", "add", "reshape"]  # the linear layer too
    assert program.results == (computed[-1].outputs[0].name,) == ("reshape_0",)
    weights = [item.values for item in dense(program) if item.values.shape == (4, 3, 3, 3)]
    np.testing.assert_array_equal(weights, [module.conv.weight.detach().numpy()])


class Linear(nn.Module):
    """A linear layer in float16, without a bias or with one."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(256, 16, bias=bias).half()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x.half()).float()
        return found


@pytest.mark.parametrize(
    ("shape", "bias", "low_db", "high_db"),
    [((2, 256), True, 65, 90), ((2, 256), False, 65, 90), ((2, 7, 256), True, 45, 65)],
)
def test_linear_layers_of_vectors_are_rounded_once(
    shape: tuple[int, ...], bias: bool, low_db: float, high_db: float, tmp_path: Path
) -> None:
    """Products of matrices are not: Apple's interpreter rounds each of their sums."""
    module, x = Linear(bias=bias), noise(*shape)
    (found,) = process.Processes(converted(module, torch.zeros(shape), tmp_path / "a.aimodel"), 1).run([{"image": x}])
    with torch.inference_mode():
        exact = module.linear.double()(torch.from_numpy(x).half().double()).numpy()
    db = 10 * np.log10((exact**2).sum() / ((found["y"] - exact) ** 2).sum())
    assert low_db < db < high_db


def test_padding_by_concatenation_changes_no_bit(tmp_path: Path) -> None:
    path, image = converted(Padded(), torch.zeros(1, 3, 6, 8), tmp_path / "a.aimodel"), noise(1, 3, 6, 8)
    (found,) = process.Processes(path, 1).run([{"image": image}])
    (everything,) = process.Processes(path, 1, tensors=True).run([{"image": image}])
    np.testing.assert_array_equal(found["y"], asyncio.run(untouched(path, image)))
    np.testing.assert_array_equal(found["y"], everything["y"])
    np.testing.assert_array_equal(everything["pad_0"][:, :, :6, 1:], image)
    assert set(np.unique(everything["pad_0"][:, :, 6:])) == {np.float32(0.5)}
    with torch.inference_mode():
        expected = Padded().eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found["y"], expected, atol=1e-5)


async def untouched(path: Path, image: NDArray[np.float32]) -> Any:
    """The numbers that the package computes without any change of ours."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray as Array

    async with AIModelAsset.load(path).executable() as model:
        found = await model.load_function(api.MAIN)({"image": Array(image)})
        return np.array(found["y"].numpy())


def test_compressed_weights_and_rounded_tensors_are_torch_s(tmp_path: Path) -> None:
    module, x = Compressed(), 3 * noise(2, 4)
    path = converted(module, torch.zeros(2, 4), tmp_path / "a.aimodel")
    (found,) = process.Processes(path, 1, tensors=True).run([{"image": x}])
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found["y"], expected, rtol=1e-5, atol=1e-5)
    assert len(np.unique(found["dequantize_0"])) > 4
    levels = np.clip(np.rint(x / np.float32(0.02)), -128 + 7, 127 + 7)
    np.testing.assert_allclose(found["dequantize_0"], levels * np.float32(0.02), atol=1e-6)
    assert {-121.0, 134.0} <= set(levels.ravel())
    program = process.read(path)
    table = module.lut.numpy().ravel()
    integers, palette = (item.values for item in dense(program) if item.compressed is not None)
    np.testing.assert_array_equal(integers, module.integers.numpy() * module.scales.numpy())
    np.testing.assert_array_equal(palette, table[module.indices.numpy()])
    assert "uint6" in {output.dtype for item in program.operations for output in item.outputs}
    assert {values.dtype for values in stored(program).values()} >= {np.dtype(np.int8), np.dtype(np.uint8)}


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
