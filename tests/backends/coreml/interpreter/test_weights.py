"""Compare the weights in a file with PyTorch's: they are matched by name or value, and each difference is reported."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter import Program, compare_weights
from cloformer_deploy.backends.coreml.palettes import palette
from tests.backends.coreml.interpreter.coreml_programs import WEIGHTS, build

pytestmark = pytest.mark.integration

Weights = dict[str, NDArray[Any]]


def tensors() -> Weights:
    """Return the PyTorch weights: two tensors of equal shape, two equal tensors, and one with small values."""
    rng = np.random.default_rng(0)
    return {
        "block.0.weight": rng.normal(0, 1, (8, 4, 3, 3)).astype(np.float32),
        "block.1.weight": rng.normal(0, 1, (8, 4, 3, 3)).astype(np.float32),
        "block.0.bias": np.zeros(200, np.float32),
        "block.1.bias": np.zeros(200, np.float32),
        "small": (rng.normal(0, 1e-6, (5, 1, 7))).astype(np.float32),
    }


# The name of each constant in the file, and the tensor it holds. The first is named as by coremltools, the second as if
# it had been multiplied by a scale. The two equal tensors are stored once, and `small` without its axis of size 1.
STORED = {
    "p_block_0_weight": "block.0.weight",
    "mul_7_weight_0": "block.1.weight",
    "p_block_0_bias": "block.0.bias",
    "p_small": "small",
}


def save(path: Path, weights: Weights, dtype: str = "fp32", suffix: str = "") -> Path:
    """Save a package whose constants are `weights`."""

    def body(mb: Any, x: Any) -> Any:
        outs = []
        for name, value in weights.items():
            stored = value.astype(np.float16 if dtype == "fp16" else np.float32)
            constant = mb.const(val=stored.reshape(5, 7) if name == "p_small" else stored, name=name + suffix)
            outs.append(mb.mul(x=x, y=constant, name=f"{name}_out"))
        return outs

    return build(path, body, [(1,)], dtype)


def stored(expected: Weights) -> Weights:
    return {constant: expected[name] for constant, name in STORED.items()}


@pytest.fixture(scope="session")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {
        "fp32": save(folder / "32.mlpackage", stored(tensors())),
        "fp16": save(folder / "16.mlpackage", stored(tensors()), "fp16", "_to_fp16"),
    }


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_equal_weights(valid: dict[str, Path], dtype: str) -> None:
    assert compare_weights(Program.load(valid[dtype]), tensors()) == []


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["block.0.weight", "block.1.weight", "block.0.bias", "small"])
def test_one_value_differs(valid: dict[str, Path], dtype: str, name: str) -> None:
    expected = tensors()
    # The change must exceed half a unit in the last place, which in float16 is up to 2**-11 of a value.
    scale = np.abs(expected[name]).max() or 1
    expected[name].flat[3] += scale * (0.01 if dtype == "fp16" else 1e-5) * (20 if name == "small" else 1)
    (failure,) = compare_weights(Program.load(valid[dtype]), expected)
    assert failure.startswith(f"{name}: 1 of {expected[name].size} values differ, max |difference| ")
    constant = next(key for key, value in STORED.items() if value == name)
    assert f"(constant {constant}" in failure


def test_differences_below_the_tolerance(valid: dict[str, Path]) -> None:
    expected = tensors()
    expected["block.0.weight"] *= 1 + 1e-7
    expected["block.1.weight"] += 1e-6
    assert compare_weights(Program.load(valid["fp32"]), expected) == []


def test_tolerance_of_float16_is_half_a_unit_in_the_last_place(tmp_path: Path) -> None:
    values = np.array([1.0, 1.0, 100.0, 100.0, 0.001, 0.001], np.float32)
    units = np.spacing(values.astype(np.float16)).astype(np.float32)
    error = np.array([0.49, 0.52, 0.49, 0.52, 0.49, 0.7], np.float32)
    package = save(tmp_path / "p.mlpackage", {"p_w": values.astype(np.float16)}, "fp16")
    (failure,) = compare_weights(Program.load(package), {"w": values.astype(np.float16) + error * units})
    assert failure.startswith("w: 3 of 6 values differ")


def test_missing_tensor(valid: dict[str, Path]) -> None:
    expected = tensors() | {"more": np.full((3, 3), 2, np.float32)}
    (failure,) = compare_weights(Program.load(valid["fp32"]), expected)
    assert failure == "more: missing; the file has no constant of shape [3, 3] that holds no other tensor"


def test_constant_of_another_tensor_does_not_match(valid: dict[str, Path]) -> None:
    expected = tensors() | {"more": np.full((8, 4, 3, 3), 2, np.float32)}
    (failure,) = compare_weights(Program.load(valid["fp32"]), expected)
    assert failure == "more: missing; the file has no constant of shape [8, 4, 3, 3] that holds no other tensor"


@pytest.mark.parametrize("value", [0, 1])
def test_tensor_of_zeros_or_ones_may_be_missing(valid: dict[str, Path], value: int) -> None:
    for shape in ((3, 3), (8, 4, 3, 3)):
        expected = tensors() | {"more": np.full(shape, value, np.float32)}
        assert compare_weights(Program.load(valid["fp32"]), expected) == []


def test_tensor_of_ones_must_not_have_other_values(tmp_path: Path) -> None:
    package = save(tmp_path / "p.mlpackage", {"gamma_0": np.array([1, 1, 2] * 5, np.float32)})
    (failure,) = compare_weights(Program.load(package), {"norm.weight": np.ones(15, np.float32)})
    assert failure == "norm.weight: 5 of 15 values differ, max |difference| 1 (constant gamma_0)"


def test_swapped_tensors_are_reported(tmp_path: Path) -> None:
    expected = {name: tensors()[name] for name in ("block.0.weight", "block.1.weight")}
    swapped = {"p_block_0_weight": expected["block.1.weight"], "p_block_1_weight": expected["block.0.weight"]}
    failures = compare_weights(Program.load(save(tmp_path / "p.mlpackage", swapped)), expected)
    assert [failure.split(":")[0] for failure in failures] == ["block.0.weight", "block.1.weight"]


def test_transposed_tensor_does_not_match(tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    package = save(tmp_path / "p.mlpackage", {"p_w": np.ascontiguousarray(values.T)})
    (failure,) = compare_weights(Program.load(package), {"w": values})
    assert failure.startswith("w: 12 of 16 values differ")


@pytest.mark.parametrize("not_finite", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, not_finite: float) -> None:
    values = np.arange(16, dtype=np.float32)
    changed = values.copy()
    changed[5] = not_finite
    program = Program.load(save(tmp_path / "p.mlpackage", {"p_w": changed}))
    assert compare_weights(program, {"w": values}) == ["w: 1 of 16 values differ, max |difference| inf (constant p_w)"]


def test_values_beyond_the_range_of_float16(tmp_path: Path) -> None:
    with np.errstate(over="ignore"):
        package = save(tmp_path / "p.mlpackage", {"p_w": np.array([1, 7e4] * 8, np.float32)}, "fp16")
    (failure,) = compare_weights(Program.load(package), {"w": np.array([1, 7e4] * 8, np.float32)})
    assert failure.startswith("w: 8 of 16 values differ")


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_zeroed_bytes(valid: dict[str, Path], tmp_path: Path, dtype: str) -> None:
    package = Path(shutil.copytree(valid[dtype], tmp_path / "zeroed.mlpackage"))
    content = bytearray((package / WEIGHTS).read_bytes())
    kind = np.float16 if dtype == "fp16" else np.float32
    start = content.index(tensors()["block.0.weight"].astype(kind).tobytes())
    content[start : start + 512] = bytes(512)
    (package / WEIGHTS).write_bytes(content)
    (failure,) = compare_weights(Program.load(package), tensors())
    count = 512 // np.dtype(kind).itemsize
    assert failure.startswith(f"block.0.weight: {count} of 288 values differ")


WEIGHT = np.random.default_rng(1).normal(0, 1, (8, 40)).astype(np.float32)
STEPS = np.abs(WEIGHT).max(axis=1) / 127
INTEGERS = np.rint(WEIGHT / STEPS[:, None]).astype(np.int8)
PALETTE, INDICES = palette(WEIGHT, 8)


def save_compressed(path: Path, dtype: type = np.float32, **stored: NDArray[Any]) -> Program:
    """Save and load a program with `WEIGHT` stored as integers, or as a palette if `lut` is given.

    Args:
        path: the package to write.
        dtype: the type of the decompressed constant.
        stored: other arguments of the operation that decompresses the constant.
    """

    def body(mb: Any, x: Any) -> Any:
        if "lut" in stored:
            shape = np.array(WEIGHT.shape, np.uint32)
            arguments = {"indices": INDICES, **stored, "lut": stored["lut"].astype(dtype)}
            constant = mb.constexpr_lut_to_dense(shape=shape, name="p_w_palettized", **arguments)
        else:
            arguments = {"quantized_data": INTEGERS, "scale": STEPS, **stored}
            arguments["scale"] = arguments["scale"].astype(dtype)
            zero, axis = np.int8(0), np.int32(0)
            constant = mb.constexpr_affine_dequantize(zero_point=zero, axis=axis, name="p_w_quantized", **arguments)
        return [mb.mul(x=x, y=constant, name="out")]

    return Program.load(build(path, body, [(1,)], "fp16" if dtype is np.float16 else "fp32"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("stored", [{}, {"lut": PALETTE}], ids=["integers", "palette"])
def test_compressed_weights(tmp_path: Path, dtype: type, stored: dict[str, NDArray[Any]]) -> None:
    assert compare_weights(save_compressed(tmp_path / "p.mlpackage", dtype, **stored), {"w": WEIGHT}) == []


def test_integer_off_by_one_step_is_reported(tmp_path: Path) -> None:
    integers = INTEGERS.copy()
    integers[2, 5] -= np.sign(integers[2, 5])
    (failure,) = compare_weights(save_compressed(tmp_path / "p.mlpackage", quantized_data=integers), {"w": WEIGHT})
    assert failure.startswith("w: 1 of 320 values differ")
    assert failure.endswith("(constant p_w_quantized)")


def test_rounding_of_small_float16_scales_is_tolerated(tmp_path: Path) -> None:
    small = STEPS * np.float32(1e-3)  # Subnormal in float16, so that few significant bits remain.
    program = save_compressed(tmp_path / "p.mlpackage", np.float16, scale=small)
    assert compare_weights(program, {"w": WEIGHT * np.float32(1e-3)}) == []


@pytest.mark.parametrize("entry", [5, 200])
def test_index_of_another_entry_than_the_nearest_is_reported(tmp_path: Path, entry: int) -> None:
    indices = INDICES.copy()
    indices[7] = entry
    (failure,) = compare_weights(save_compressed(tmp_path / "p.mlpackage", lut=PALETTE, indices=indices), {"w": WEIGHT})
    assert failure.startswith("w: 1 of 320 values differ")


def test_palette_of_zeros_is_reported(tmp_path: Path) -> None:
    program = save_compressed(tmp_path / "p.mlpackage", lut=np.zeros(256, np.float32))
    (failure,) = compare_weights(program, {"w": WEIGHT})
    assert failure.startswith("w: 320 of 320 values differ")
