"""Compare the interpreter's operations with torch or numpy, on programs that coremltools builds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from cloformer_deploy.backends.coreml.interpreter import Program
from tests.backends.coreml.interpreter.coreml_programs import Case, build, cast, check, random_arrays, weights

pytestmark = pytest.mark.integration

BINARY: list[Case] = [
    ("add", lambda mb, x, y: mb.add(x=x, y=y), lambda x, y: x + y),
    ("sub", lambda mb, x, y: mb.sub(x=x, y=y), lambda x, y: x - y),
    ("mul", lambda mb, x, y: mb.mul(x=x, y=y), lambda x, y: x * y),
    ("real_div", lambda mb, x, y: mb.real_div(x=x, y=y), lambda x, y: x / y),
    ("maximum", lambda mb, x, y: mb.maximum(x=x, y=y), lambda x, y: torch.where(x > y, x, y)),
    ("minimum", lambda mb, x, y: mb.minimum(x=x, y=y), lambda x, y: torch.where(x > y, y, x)),
    ("pow", lambda mb, x, y: mb.pow(x=x, y=cast(x, 3)), lambda x, y: x * x * x),
    ("constant first", lambda mb, x, y: mb.sub(x=cast(x, 1.5), y=x), lambda x, y: 1.5 - x),
]


def as_floats(mb: Any, integers: Any, like: Any) -> Any:
    return mb.cast(x=integers, dtype=str(cast(like, 0).dtype).replace("float", "fp"))


UNARY: list[Case] = [
    ("square", lambda mb, x: mb.square(x=x), lambda x: x**2),
    ("sqrt", lambda mb, x: mb.sqrt(x=mb.relu(x=x)), lambda x: x.clamp(min=0).sqrt()),
    ("rsqrt", lambda mb, x: mb.rsqrt(x=mb.exp(x=x)), lambda x: 1 / x.exp().sqrt()),
    (
        "rsqrt with epsilon",
        lambda mb, x: mb.rsqrt(x=mb.relu(x=x), epsilon=cast(x, 0.5)),
        lambda x: 1 / (x.clamp(min=0) + 0.5).sqrt(),
    ),
    ("exp", lambda mb, x: mb.exp(x=x), lambda x: x.exp()),
    ("erf", lambda mb, x: mb.erf(x=x), lambda x: x.erf()),
    ("tanh", lambda mb, x: mb.tanh(x=x), lambda x: 2 / (1 + (-2 * x).exp()) - 1),
    ("sigmoid", lambda mb, x: mb.sigmoid(x=x), lambda x: 1 / (1 + (-x).exp())),
    ("silu", lambda mb, x: mb.silu(x=x), lambda x: x / (1 + (-x).exp())),
    ("clip", lambda mb, x: mb.clip(x=x, alpha=cast(x, -0.5), beta=cast(x, 0.75)), lambda x: x.clamp(-0.5, 0.75)),
    ("relu", lambda mb, x: mb.relu(x=x), lambda x: x * (x > 0)),
    ("gelu", lambda mb, x: mb.gelu(x=x), lambda x: x * (1 + (x / 2**0.5).erf()) / 2),
    (
        "gelu, tanh approximation",
        lambda mb, x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: x * (1 + ((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh()) / 2,
    ),
    (
        "gelu, sigmoid approximation",
        lambda mb, x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x * (1.702 * x).sigmoid(),
    ),
    ("softmax", lambda mb, x: mb.softmax(x=x), lambda x: x.exp() / x.exp().sum(-1, keepdim=True)),
    ("softmax along an axis", lambda mb, x: mb.softmax(x=x, axis=1), lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    ("reduce_mean", lambda mb, x: mb.reduce_mean(x=x), lambda x: x.mean()),
    (
        "reduce_mean over axes",
        lambda mb, x: mb.reduce_mean(x=x, axes=[1, -1], keep_dims=True),
        lambda x: x.mean((1, -1), True),
    ),
    ("reduce_sum", lambda mb, x: mb.reduce_sum(x=x, axes=[-2]), lambda x: x.sum(-2)),
    ("reduce_sum over all axes", lambda mb, x: mb.reduce_sum(x=x, keep_dims=True), lambda x: x.sum((0, 1, 2, 3), True)),
    ("reduce_max", lambda mb, x: mb.reduce_max(x=x, axes=[0, 1]), lambda x: x.amax((0, 1))),
    ("reduce_max over all axes", lambda mb, x: mb.reduce_max(x=x), lambda x: x.max()),
    ("reduce_argmax", lambda mb, x: as_floats(mb, mb.reduce_argmax(x=x, axis=2), x), lambda x: x.argmax(2).float()),
    (
        "reduce_argmax, uint16",
        lambda mb, x: as_floats(mb, mb.reduce_argmax(x=x, keep_dims=True, output_dtype="uint16"), x),
        lambda x: x.argmax(-1, keepdim=True).float(),
    ),
]


def interleaved(x: Tensor) -> Tensor:
    out = torch.empty(2, 1, 12, 5)
    out[:, :, ::2], out[:, :, 1::2] = x, x.exp()
    return out


LAYOUT: list[Case] = [  # for x (2, 1, 6, 5)
    ("reshape", lambda mb, x: mb.reshape(x=x, shape=[3, -1, 2]), lambda x: x.reshape(3, 10, 2)),
    ("reshape with 0", lambda mb, x: mb.reshape(x=x, shape=[-1, 0, 0, 0]), lambda x: x),
    ("reshape with 0, longer", lambda mb, x: mb.reshape(x=x, shape=[0, -1, 0, 0, 0]), lambda x: x[None]),
    ("reshape with 0, shorter", lambda mb, x: mb.reshape(x=x, shape=[-1, 0]), lambda x: x.reshape(12, 5)),
    ("transpose", lambda mb, x: mb.transpose(x=x, perm=[3, 0, -2, 1]), lambda x: x.permute(3, 0, 2, 1)),
    ("squeeze", lambda mb, x: mb.squeeze(x=x), lambda x: x[:, 0]),
    ("squeeze an axis", lambda mb, x: mb.squeeze(x=x, axes=[-3]), lambda x: x[:, 0]),
    ("expand_dims", lambda mb, x: mb.expand_dims(x=x, axes=[-1]), lambda x: x[..., None]),
    ("split", lambda mb, x: mb.split(x=x, num_splits=3, axis=2), lambda x: (x[:, :, :2], x[:, :, 2:4], x[:, :, 4:])),
    ("split sizes", lambda mb, x: mb.split(x=x, split_sizes=[4, 1], axis=-1), lambda x: (x[..., :4], x[..., 4:])),
    ("concat", lambda mb, x: mb.concat(values=[x, mb.exp(x=x)], axis=-2), lambda x: torch.cat([x, x.exp()], 2)),
    (
        "concat, interleaved",
        lambda mb, x: mb.concat(values=[x, mb.exp(x=x)], axis=-2, interleave=True),
        interleaved,
    ),
    (
        "concat with a constant",
        lambda mb, x: mb.concat(values=[cast(x, np.ones((2, 1, 6, 1))), x], axis=3),
        lambda x: torch.cat([torch.ones(2, 1, 6, 1), x], 3),
    ),
    (
        "slice_by_index",
        lambda mb, x: mb.slice_by_index(x=x, begin=[1, 0, -4, 1], end=[2, 1, -1, 5], stride=[1, 1, 1, 2]),
        lambda x: x[1:2, :, -4:-1, 1:5:2],
    ),
    (
        "slice_by_index with masks",
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[-1, 0, 3, 2],
            end=[0, 1, 4, 3],
            begin_mask=[False, False, True, False],
            end_mask=[False, False, False, True],
            squeeze_mask=[True, False, False, False],
        ),
        lambda x: x[-1, :, :4, 2:],
    ),
    (
        "slice_by_index with negative steps",
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[0, 0, 5, 4],
            end=[2, 1, 0, 0],
            stride=[1, 1, -2, -1],
            end_mask=[False, False, False, True],
        ),
        lambda x: x.flip(2)[:, :, :5:2].flip(3),
    ),
    (
        "slice_by_size",
        lambda mb, x: mb.slice_by_size(x=x, begin=[0, 0, -4, 1], size=[1, -1, 3, -1]),
        lambda x: x[:1, :, 2:5, 1:],
    ),
    ("pad", lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 3]), lambda x: F.pad(x, (2, 3, 1, 0))),
    (
        "pad with a value",
        lambda mb, x: mb.pad(x=x, pad=[1, 0, 0, 0, 0, 0, 0, 2], constant_val=cast(x, 1.5)),
        lambda x: F.pad(x, (0, 2, 0, 0, 0, 0, 1, 0), value=1.5),
    ),
    (
        "pad by reflection",
        lambda mb, x: mb.pad(x=x, pad=[0, 0, 0, 0, 1, 2, 3, 0], mode="reflect"),
        lambda x: F.pad(x, (3, 0, 1, 2), mode="reflect"),
    ),
    (
        "pad by repetition",
        lambda mb, x: mb.pad(x=x, pad=[2, 1], mode="replicate"),
        lambda x: torch.cat([x[..., :1], x[..., :1], x, x[..., -1:]], -1),
    ),
    ("identity", lambda mb, x: mb.identity(x=x), lambda x: x),
]

PRODUCTS: list[Case] = [  # for x (2, 3, 4, 6) and y (2, 1, 5, 6)
    ("matmul", lambda mb, x, y: mb.matmul(x=x, y=y, transpose_y=True), lambda x, y: x @ y.transpose(2, 3)),
    (
        "matmul with transpose_x",
        lambda mb, x, y: mb.matmul(x=x, y=cast(x, weights(3, 4, 2)), transpose_x=True),
        lambda x, y: x.transpose(2, 3) @ torch.from_numpy(weights(3, 4, 2)),
    ),
    (
        "linear",
        lambda mb, x, y: mb.linear(
            x=mb.reshape(x=x, shape=[6, 4, 6]),
            weight=cast(x, weights(7, 6)),
            bias=cast(x, weights(7)),
        ),
        lambda x, y: x.reshape(6, 4, 6) @ torch.from_numpy(weights(7, 6)).T + torch.from_numpy(weights(7)),
    ),
    (
        "linear without bias",
        lambda mb, x, y: mb.linear(x=mb.reshape(x=x, shape=[24, 6]), weight=cast(x, weights(7, 6))),
        lambda x, y: x.reshape(24, 6) @ torch.from_numpy(weights(7, 6)).T,
    ),
    (
        "einsum",
        lambda mb, x, y: mb.einsum(values=[x, mb.transpose(x=y, perm=[0, 3, 1, 2])], equation="bchq,bqhk->bchk"),
        lambda x, y: (x.permute(0, 2, 1, 3) @ y[:, 0].transpose(1, 2)[:, None]).permute(0, 2, 1, 3),
    ),
]


GROUPS: dict[str, tuple[list[tuple[int, ...]], list[Case]]] = {
    "binary": ([(2, 3, 4), (3, 1)], BINARY),
    "unary": ([(2, 3, 4, 5)], UNARY),
    "layout": ([(2, 1, 6, 5)], LAYOUT),
    "products": ([(2, 3, 4, 6), (2, 1, 5, 6)], PRODUCTS),
}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("group", GROUPS)
def test_matches_torch(tmp_path: Path, group: str, dtype: str) -> None:
    shapes, cases = GROUPS[group]
    check(tmp_path / "ops.mlpackage", shapes, cases, dtype)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("int32", np.int32), ("bool", np.bool_), ("fp16", np.float16), ("int8", np.int8), ("uint8", np.uint8)],
)
def test_cast(tmp_path: Path, dtype: str, expected: type) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.cast(x=mb.cast(x=x, dtype=dtype, name="converted"), dtype="fp32", name="out")

    values = np.array([0.0, 1.75, 2.9, 100.0], np.float32)
    observed: dict[str, Tensor] = {}
    out = Program.load(build(tmp_path / "cast.mlpackage", body, [(4,)])).run({"x": values}, observed.__setitem__)
    assert observed["converted"].numpy().dtype == expected
    np.testing.assert_array_equal(observed["converted"].numpy(), values.astype(expected))
    np.testing.assert_array_equal(out["out"], values.astype(expected).astype(np.float32))


def test_float16_is_rounded_once_per_operation(tmp_path: Path) -> None:
    package = build(
        tmp_path / "half.mlpackage", lambda mb, x, y: mb.add(x=mb.mul(x=x, y=y), y=x), [(500,), (500,)], "fp16"
    )
    arrays = random_arrays([(500,), (500,)], "fp16")
    (out,) = Program.load(package).run(arrays).values()
    assert isinstance(out, np.ndarray)
    x, y = arrays["x"].astype(np.float32), arrays["y"].astype(np.float32)
    product = (x * y).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(out, (product + x).astype(np.float16))
    assert np.any(out != (x * y + x).astype(np.float16)), "the values must distinguish one rounding from two"


def test_float16_overflows_to_infinity(tmp_path: Path) -> None:
    package = build(tmp_path / "big.mlpackage", lambda mb, x: mb.square(x=x), [(2,)], "fp16")
    (out,) = Program.load(package).run({"x": np.array([255, 256], np.float16)}).values()
    np.testing.assert_array_equal(out, np.array([65024, np.inf], np.float16))


def test_float16_mean_does_not_overflow_in_its_sum(tmp_path: Path) -> None:
    package = build(tmp_path / "mean.mlpackage", lambda mb, x: mb.reduce_mean(x=x), [(100,)], "fp16")
    (out,) = Program.load(package).run({"x": np.full(100, 1000, np.float16)}).values()
    np.testing.assert_array_equal(out, np.float16(1000))
