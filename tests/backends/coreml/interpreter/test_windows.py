"""Compare the interpreter's convolutions, pooling (with all kinds of padding) and normalizations with torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from tests.backends.coreml.interpreter.coreml_programs import Case, cast, check, weights

pytestmark = pytest.mark.integration


def conv_case(name: str, torch_arguments: dict[str, Any], pads: tuple[int, ...] | None = None, **mil: Any) -> Case:
    """Return a case with a convolution of x.

    Args:
        name: the name of the case.
        torch_arguments: the arguments of torch's convolution.
        pads: the padding of x before torch's convolution, as for `torch.nn.functional.pad`.
        mil: the arguments of the MIL operation; `weight` is the shape of the weight, and `bias=False` omits the bias.
    """
    weight, bias = weights(*mil.pop("weight")), mil.pop("bias", True)
    biases = weights(len(weight)) if bias else None

    def body(mb: Any, x: Any) -> Any:
        optional = {"bias": cast(x, biases)} if biases is not None else {}
        return mb.conv(x=x, weight=cast(x, weight), **optional, **mil)

    def reference(x: Tensor) -> Tensor:
        function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]
        padded = F.pad(x, pads) if pads else x
        torch_bias = torch.from_numpy(biases) if biases is not None else None
        out: Tensor = function(padded, torch.from_numpy(weight), torch_bias, **torch_arguments)
        return out

    return name, body, reference


CONV: list[Case] = [  # for x (2, 4, 9, 8)
    conv_case("conv", {}, weight=(6, 4, 3, 2)),
    conv_case("conv without bias", {}, weight=(6, 4, 1, 1), bias=False),
    conv_case(
        "conv with strides",
        {"stride": (2, 3), "padding": (1, 2)},
        weight=(6, 4, 3, 5),
        strides=[2, 3],
        pad_type="custom",
        pad=[1, 1, 2, 2],
    ),
    conv_case("grouped conv", {"groups": 2}, weight=(6, 2, 3, 3), groups=2),
    conv_case(
        "dilated conv", {"dilation": (2, 1), "padding": "same"}, weight=(6, 4, 3, 3), dilations=[2, 1], pad_type="same"
    ),
    conv_case("conv with uneven padding", {}, (3, 0, 1, 2), weight=(6, 4, 3, 3), pad_type="custom", pad=[1, 2, 3, 0]),
    # With stride 2 the output of 9 x 8 is 5 x 4. The windows extend beyond the input by 1 x 2 elements for a kernel of
    # 2 x 4, and by 3 x 1 for a kernel of 4 x 3.
    conv_case("conv same", {"stride": 2}, (1, 1, 0, 1), weight=(6, 4, 2, 4), strides=[2, 2], pad_type="same"),
    conv_case(
        "conv same with odd padding", {"stride": 2}, (0, 1, 1, 2), weight=(6, 4, 4, 3), strides=[2, 2], pad_type="same"
    ),
    conv_case(
        "conv same_lower", {"stride": 2}, (1, 0, 2, 1), weight=(6, 4, 4, 3), strides=[2, 2], pad_type="same_lower"
    ),
]
CONV_1D = [conv_case("conv 1-D", {"stride": 2}, (1, 0), weight=(5, 4, 3), strides=[2], pad_type="custom", pad=[1, 0])]
CONV_3D = [conv_case("conv 3-D", {"padding": 1}, weight=(5, 4, 3, 3, 3), pad_type="same")]

POOL: list[Case] = [  # for x (2, 4, 9, 8)
    (
        "avg_pool",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[3, 2], strides=[3, 2], pad_type="valid"),
        lambda x: F.avg_pool2d(x, (3, 2)),
    ),
    (
        "avg_pool with padding",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[3, 3], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1),
    ),
    (
        "avg_pool, padding excluded",
        lambda mb, x: mb.avg_pool(
            x=x, kernel_sizes=[3, 3], pad_type="custom", pad=[1, 1, 1, 1], exclude_padding_from_average=True
        ),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    (
        "avg_pool, uneven padding excluded",
        lambda mb, x: mb.avg_pool(
            x=x, kernel_sizes=[2, 2], pad_type="custom", pad=[1, 0, 0, 0], exclude_padding_from_average=True
        ),
        lambda x: F.avg_pool2d(F.pad(x, (0, 0, 1, 0)), 2, 1) * torch.tensor([2.0] + [1.0] * 8).reshape(9, 1),
    ),
    (
        "avg_pool with uneven padding",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 2], pad_type="same"),
        lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1),
    ),
    (
        "avg_pool with ceil_mode",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 3], strides=[2, 3], pad_type="valid", ceil_mode=True),
        lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True),
    ),
    (
        "max_pool",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="valid"),
        lambda x: x.unfold(2, 3, 2).unfold(3, 2, 2).amax((-1, -2)),
    ),
    (
        "max_pool with padding",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3, 3], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-1e4), 3, 1),
    ),
    (
        "max_pool with uneven padding",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="same_lower"),
        lambda x: F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-1e4), 2, 1),
    ),
    (
        "max_pool with ceil_mode",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    ),
]
POOL_1D: list[Case] = [
    (
        "avg_pool 1-D",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[3], pad_type="valid"),
        lambda x: F.avg_pool1d(x, 3, 1),
    ),
    (
        "max_pool 1-D",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3], pad_type="valid"),
        lambda x: F.max_pool1d(x, 3, 1),
    ),
]
POOL_3D: list[Case] = [
    (
        "avg_pool 3-D",
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2] * 3, pad_type="valid"),
        lambda x: F.avg_pool3d(x, 2, 1),
    ),
    (
        "max_pool 3-D",
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[2] * 3, pad_type="valid"),
        lambda x: F.max_pool3d(x, 2, 1),
    ),
]

PER_CHANNEL = (np.array([0.5, -1, 2, 3]), np.array([1, 2, 0.5, 4]), np.array([2, 1, 0.5, -1]), np.array([0, 1, 2, 3]))
MEAN, VARIANCE, GAMMA, BETA = (torch.from_numpy(values).float().reshape(1, 4, 1, 1) for values in PER_CHANNEL)


def normalized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + epsilon).sqrt()


NORMS: list[Case] = [  # for x (2, 4, 9, 8)
    (
        "batch_norm",
        lambda mb, x: mb.batch_norm(
            x=x, **{k: cast(x, v) for k, v in zip(("mean", "variance"), PER_CHANNEL, strict=False)}
        ),
        lambda x: (x - MEAN) / (VARIANCE + 1e-5).sqrt(),
    ),
    (
        "batch_norm with all arguments",
        lambda mb, x: mb.batch_norm(
            x=x,
            epsilon=cast(x, 0.25),
            **{k: cast(x, v) for k, v in zip(("mean", "variance", "gamma", "beta"), PER_CHANNEL, strict=True)},
        ),
        lambda x: (x - MEAN) / (VARIANCE + 0.25).sqrt() * GAMMA + BETA,
    ),
    ("instance_norm", lambda mb, x: mb.instance_norm(x=x), lambda x: normalized(x, (2, 3), 1e-5)),
    (
        "instance_norm with all arguments",
        lambda mb, x: mb.instance_norm(
            x=x, gamma=cast(x, PER_CHANNEL[2]), beta=cast(x, PER_CHANNEL[3]), epsilon=cast(x, 0.25)
        ),
        lambda x: normalized(x, (2, 3), 0.25) * GAMMA + BETA,
    ),
    ("layer_norm", lambda mb, x: mb.layer_norm(x=x, axes=[0, 1, 2, 3]), lambda x: normalized(x, (0, 1, 2, 3), 1e-5)),
    (
        "layer_norm with all arguments",
        lambda mb, x: mb.layer_norm(
            x=x,
            axes=[1, -1],
            gamma=cast(x, weights(4, 8)),
            beta=cast(x, weights(4, 8) + 1),
            epsilon=cast(x, 0.25),
        ),
        lambda x: (
            normalized(x, (1, 3), 0.25) * torch.from_numpy(weights(4, 8))[:, None]
            + (torch.from_numpy(weights(4, 8)) + 1)[:, None]
        ),
    ),
]

GROUPS: dict[str, tuple[tuple[int, ...], list[Case]]] = {
    "conv": ((2, 4, 9, 8), CONV),
    "pool": ((2, 4, 9, 8), POOL),
    "norm": ((2, 4, 9, 8), NORMS),
    "1-D": ((2, 4, 9), CONV_1D + POOL_1D),
    "3-D": ((2, 4, 3, 4, 5), CONV_3D + POOL_3D),
}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("group", GROUPS)
def test_matches_torch(tmp_path: Path, group: str, dtype: str) -> None:
    shape, cases = GROUPS[group]
    check(tmp_path / "windows.mlpackage", [shape], cases, dtype)
