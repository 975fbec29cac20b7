"""Compare quantized activations and compressed weights with coremltools' own computation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter import Program
from tests.backends.coreml.interpreter.coreml_programs import build

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(3)


class Case:
    """A compressed constant; calling it with the program builder adds it to the program.

    Attributes:
        operation: the `constexpr_` operation.
        size: the decompressed shape.
        arguments: the arguments of the operation; functions are called when the constant is built.
    """

    def __init__(self, operation: str, size: tuple[int, ...], /, **arguments: Any) -> None:
        self.operation = operation
        self.size = size
        self.arguments = arguments

    def __call__(self, mb: Any) -> Any:
        arguments = {key: value() if callable(value) else value for key, value in self.arguments.items()}
        return getattr(mb, self.operation)(**arguments)


def check(path: Path, ios: int, dtype: type, cases: dict[str, Case]) -> None:
    """Compare the weights of each case with coremltools' own decompression; all cases share one package."""
    constants: dict[str, Any] = {}

    def body(mb: Any, x: Any) -> Any:
        constants.update({name: case(mb) for name, case in cases.items()})
        return [mb.mul(x=x, y=constant, name=f"out_{i}") for i, constant in enumerate(constants.values())]

    precision = "fp16" if dtype is np.float16 else "fp32"
    program = Program.load(build(path, body, [(1,)], precision, ios))
    outs = program.run({"x": np.ones(1, dtype)})
    for i, (name, constant) in enumerate(constants.items()):
        decompressed = program.constants[constant.name]
        assert decompressed.shape == cases[name].size, name
        assert decompressed.dtype == dtype, name
        np.testing.assert_array_equal(decompressed, constant.op.materialized_val_inference(), err_msg=name)
        np.testing.assert_array_equal(outs[f"out_{i}"], decompressed, err_msg=name)


def bits(count: int, shape: tuple[int, ...], signed: bool = False) -> Any:
    """Return a function that makes random integers of `count` bits in coremltools' own type for them.

    It is a function because making them imports coremltools, which the collection of tests must not do.
    """
    low = -(2 ** (count - 1)) if signed else 0
    numbers = np.random.default_rng(count).integers(low, low + 2**count, shape)

    def make() -> NDArray[Any]:
        from coremltools.converters.mil.mil.types import nptype_from_builtin, string_to_builtin

        return numbers.astype(nptype_from_builtin(string_to_builtin(f"{'int' if signed else 'uint'}{count}")))

    return make


def packed(count: int, elements: int) -> NDArray[np.uint8]:
    """Return the packed bytes of random indices of `count` bits."""
    return np.random.default_rng(count).integers(0, 256, -(-count * elements // 8)).astype(np.uint8)


def reals(*shape: int, dtype: type = np.float32) -> NDArray[Any]:
    return RNG.normal(0, 1, shape).astype(dtype)


IOS16 = {
    "affine, one scale": Case(
        "constexpr_affine_dequantize",
        (4, 8, 1, 3),
        quantized_data=RNG.integers(-128, 128, (4, 8, 1, 3)).astype(np.int8),
        zero_point=np.int8(-7),
        scale=np.float32(0.1),
        axis=np.int32(0),
    ),
    "affine, scales along an axis": Case(
        "constexpr_affine_dequantize",
        (4, 8, 1, 3),
        quantized_data=RNG.integers(0, 256, (4, 8, 1, 3)).astype(np.uint8),
        zero_point=RNG.integers(0, 256, 8).astype(np.uint8),
        scale=reals(8),
        axis=np.int32(-3),
    ),
    **{
        f"look-up table of {count} bits": Case(
            "constexpr_lut_to_dense",
            (5, 3, 7),
            indices=packed(count, 105),
            lut=reals(2**count),
            shape=np.array([5, 3, 7], np.uint32),
        )
        for count in (1, 2, 4, 6, 8)
    },
}

IOS18 = {
    "int8 per channel": Case(
        "constexpr_blockwise_shift_scale", (4, 6, 1, 1), data=bits(8, (4, 6, 1, 1), True), scale=reals(4, 1, 1, 1)
    ),
    "int4 per block": Case(
        "constexpr_blockwise_shift_scale", (4, 6, 3), data=bits(4, (4, 6, 3), True), scale=reals(4, 2, 1)
    ),
    "uint4 per block with offset": Case(
        "constexpr_blockwise_shift_scale",
        (3, 6),
        data=bits(4, (3, 6)),
        scale=reals(3, 3),
        offset=bits(4, (3, 3)),
    ),
    "uint8 with offset": Case(
        "constexpr_blockwise_shift_scale", (2, 6), data=bits(8, (2, 6)), scale=reals(2, 1), offset=bits(8, (2, 1))
    ),
    **{
        f"look-up table of {count} bits": Case(
            "constexpr_lut_to_dense", (5, 3, 7), indices=bits(count, (5, 3, 7)), lut=reals(1, 1, 1, 2**count, 1)
        )
        for count in (1, 2, 3, 4, 6, 8)
    },
    "look-up tables per group": Case(
        "constexpr_lut_to_dense", (6, 4, 1, 1), indices=bits(4, (6, 4, 1, 1)), lut=reals(3, 2, 1, 1, 16, 1)
    ),
    "look-up table of vectors": Case(
        "constexpr_lut_to_dense",
        (6, 8),
        indices=bits(2, (3, 8)),
        lut=reals(1, 1, 4, 2),
        vector_axis=np.int32(0),
    ),
    "look-up tables of vectors per group": Case(
        "constexpr_lut_to_dense",
        (4, 12, 2),
        indices=bits(2, (4, 4, 2)),
        lut=reals(2, 1, 2, 4, 3),
        vector_axis=np.int32(-2),
    ),
}


def test_ios16_weights(tmp_path: Path) -> None:
    check(tmp_path / "w.mlpackage", 16, np.float32, IOS16)


def test_ios18_weights(tmp_path: Path) -> None:
    check(tmp_path / "w.mlpackage", 18, np.float32, IOS18)


def test_float16_scales_give_float16_weights(tmp_path: Path) -> None:
    case = Case(
        "constexpr_blockwise_shift_scale",
        (4, 6),
        data=bits(8, (4, 6), True),
        scale=reals(4, 1, dtype=np.float16),
    )
    check(tmp_path / "w.mlpackage", 18, np.float16, {"int8 per channel": case})


@pytest.mark.parametrize(
    ("arguments", "quantized", "dequantized"),
    [
        # Ties round to the even number, and values outside the range of the type are clipped.
        ({"scale": 0.5, "output_dtype": "int8"}, [-128, -4, -2, 2, 2, 127], [-64, -2, -1, 1, 1, 63.5]),
        (
            {"scale": 0.5, "zero_point": np.uint8(100), "output_dtype": "uint8"},
            [0, 96, 98, 102, 102, 255],
            [-50, -2, -1, 1, 1, 77.5],
        ),
        (
            {"scale": np.array([1, 1, 1, 0.1, 1, 1]), "zero_point": np.array([0, 1, 0, 0, 1, 0], np.int8)}
            | {"output_dtype": "int8", "axis": 1},
            [-128, -1, -1, 10, 3, 100],
            [-128, -2, -1, 1, 2, 100],
        ),
    ],
    ids=["int8", "uint8 with zero point", "along an axis"],
)
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_quantize_and_dequantize(
    tmp_path: Path, dtype: str, arguments: dict[str, Any], quantized: list[int], dequantized: list[float]
) -> None:
    float_type = np.float32 if dtype == "fp32" else np.float16
    scale = np.asarray(arguments["scale"], float_type)[()]
    zero_point = {key: value for key, value in arguments.items() if key in ("zero_point", "axis")}

    def body(mb: Any, x: Any) -> Any:
        numbers = mb.quantize(input=x, name="numbers", **{**arguments, "scale": scale})
        return mb.dequantize(input=numbers, scale=scale, name="out", **zero_point)

    observed: dict[str, Any] = {}
    values = np.array([[-1e4, -1.75, -1.25, 1.25, 0.75, 100]], float_type)
    if arguments.get("axis"):
        values[0, 1:5] = [-2, -1, 1, 2]
    program = Program.load(build(tmp_path / "q.mlpackage", body, [(1, 6)], dtype))
    out = program.run({"x": values}, observed.__setitem__)
    assert str(observed["numbers"].dtype) == f"torch.{arguments['output_dtype']}"
    np.testing.assert_array_equal(observed["numbers"].numpy(), [quantized])
    assert isinstance(out["out"], np.ndarray)
    assert out["out"].dtype == float_type
    np.testing.assert_allclose(out["out"], [dequantized], rtol=1e-3)
