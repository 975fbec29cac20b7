"""Quantized activations, and weights stored in few bits (MIL: iOS17 quantization_ops, constexpr operations).

The `constexpr_` operations have only constants, so they are computed once, in numpy, with integers in
float32 (no product or difference of 8-bit numbers is rounded there) and one rounding to the result's type.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.constants import unpack_bits
from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES


@operator("quantize", rounded=False)
def quantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), ties to even; scale and zero point single or along `axis`."""
    dtype = TORCH_DTYPES[output_dtype]
    numbers = (input.float() / _along(scale.float(), input, axis)).round_()
    if zero_point is not None:
        numbers += _along(zero_point.float(), input, axis)
    limits = torch.iinfo(dtype)
    return numbers.clamp_(limits.min, limits.max).to(dtype)


@operator("dequantize", rounded=False)
def dequantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """(input - zero_point) * scale, of scale's type; scale and zero point single or along `axis`."""
    numbers = input.float()  # a copy: the input is of integers
    if zero_point is not None:
        numbers -= _along(zero_point.float(), input, axis)
    numbers *= _along(scale.float(), input, axis)
    return numbers.to(scale.dtype)


@operator("classify", rounded=False)
def classify(probabilities: Tensor, classes: tuple[str | int, ...]) -> tuple[str | int, dict[str | int, float]]:
    """The label of the largest probability, and the probability of each label, in the labels' order."""
    values = probabilities.flatten().tolist()
    return classes[int(probabilities.argmax())], dict(zip(classes, values, strict=True))


@operator("constexpr_affine_dequantize", folded=True)
def affine_dequantize(
    quantized_data: NDArray[Any], zero_point: NDArray[Any], scale: NDArray[Any], axis: int
) -> NDArray[Any]:
    """(quantized_data - zero_point) * scale, each a scalar or one value for each index of `axis`."""
    shape = [1] * quantized_data.ndim
    shape[axis] = -1
    offset = zero_point.astype(np.float32).reshape(shape)
    numbers = (quantized_data.astype(np.float32) - offset) * scale.astype(np.float32).reshape(shape)
    return numbers.astype(scale.dtype)


@operator("constexpr_blockwise_shift_scale", folded=True)
def blockwise_shift_scale(data: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any] | None = None) -> NDArray[Any]:
    """(data - offset) * scale; scale and offset have data's rank, and one value for each block of it."""
    numbers = data.astype(np.float32)
    if offset is not None:
        numbers = numbers - spread(offset, data.shape).astype(np.float32)
    return (numbers * spread(scale, data.shape).astype(np.float32)).astype(scale.dtype)


@operator("constexpr_lut_to_dense", folded=True)
def lut_to_dense(
    indices: NDArray[Any],
    lut: NDArray[Any],
    shape: NDArray[Any] | None = None,
    vector_axis: int | None = None,
) -> NDArray[Any]:
    """Weights from a look-up table.

    iOS 16: `indices` are packed bytes, `lut` [palettes], `shape` the result's. iOS 18: `indices` [*D], lut
    [*blocks, palettes, vector]: one table for each block of the indices, and each index stands for a
    vector along `vector_axis` of the result.
    """
    if shape is not None:
        bits = (len(lut) - 1).bit_length()
        count = int(np.prod(shape, dtype=np.int64))
        dense: NDArray[Any] = lut[unpack_bits(indices, bits, count, signed=False)].reshape(shape)
        return dense
    size = lut.shape[-1]
    # Which table each index looks into, axis by axis.
    blocks = np.ix_(
        *(np.arange(have) // (have // tables) for have, tables in zip(indices.shape, lut.shape, strict=False))
    )
    vectors: NDArray[Any] = lut[(*blocks, indices)]
    if size == 1:
        return vectors.reshape(indices.shape)
    if vector_axis is None:
        raise ValueError(f"vectors of {size} need a vector_axis")
    axis = vector_axis % indices.ndim
    result_shape = list(indices.shape)
    result_shape[axis] *= size
    return np.moveaxis(vectors, -1, axis + 1).reshape(result_shape)


def _along(value: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A scalar as it is, a vector shaped to lie along `axis` of x."""
    if axis is None or value.ndim == 0:
        return value
    shape = [1] * x.ndim
    shape[axis] = -1
    return value.reshape(shape)


def spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`values`, each repeated over its block of `shape`."""
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        if want % have:
            raise ValueError(f"{want} elements are not a multiple of {have} blocks")
        values = np.repeat(values, want // have, axis)
    return values
