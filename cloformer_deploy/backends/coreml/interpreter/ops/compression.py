"""Quantized activations, compressed weights and the classifier's output.

Sources in coremltools' MIL operations: iOS17/quantization_ops.py, iOS16/constexpr_ops.py, iOS18/compression.py and
iOS15/classify.py.

The `constexpr_` operations have only constant inputs, so they are computed once, in numpy. Integers are converted to
float32, which represents differences and products of 8-bit integers exactly, and the result is rounded once to its
type.
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
    """Return clip(round(input / scale) + zero_point) in the range of the output type; ties round to even.

    Args:
        input: float tensor of any shape.
        scale: float scalar, or one value per index of `axis`.
        output_dtype: "int8" or "uint8".
        zero_point: scalar or vector like `scale`, of the output type; 0 by default.
        axis: the axis of `input` that a vector of scales applies to.

    Returns:
        A tensor of the input's shape and type `output_dtype`.
    """
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
    """Return (input - zero_point) * scale.

    Args:
        input: int8 or uint8 tensor of any shape.
        scale: float scalar, or one value per index of `axis`.
        zero_point: scalar or vector like `scale`, of the input's type; 0 by default.
        axis: the axis of `input` that a vector of scales applies to.

    Returns:
        A tensor of the input's shape and the scale's type.
    """
    numbers = input.float()  # This makes a copy, because the input has an integer type.
    if zero_point is not None:
        numbers -= _along(zero_point.float(), input, axis)
    numbers *= _along(scale.float(), input, axis)
    return numbers.to(scale.dtype)


@operator("classify", rounded=False)
def classify(probabilities: Tensor, classes: tuple[str | int, ...]) -> tuple[str | int, dict[str | int, float]]:
    """Return the label with the highest probability, and the probability of each label.

    Args:
        probabilities: tensor with one element per label, of any shape.
        classes: the labels: strings or integers.

    Returns:
        The label, and a dictionary from label to probability in the order of `classes`.
    """
    values = probabilities.flatten().tolist()
    return classes[int(probabilities.argmax())], dict(zip(classes, values, strict=True))


@operator("constexpr_affine_dequantize", folded=True)
def affine_dequantize(
    quantized_data: NDArray[Any], zero_point: NDArray[Any], scale: NDArray[Any], axis: int
) -> NDArray[Any]:
    """Return (quantized_data - zero_point) * scale (iOS 16).

    Args:
        quantized_data: int8 or uint8 array of any shape.
        zero_point: scalar, or one value per index of `axis`, of the type of `quantized_data`.
        scale: float scalar, or one value per index of `axis`.
        axis: the axis of `quantized_data` that vectors apply to.

    Returns:
        An array of `quantized_data`'s shape and the scale's type.
    """
    shape = [1] * quantized_data.ndim
    shape[axis] = -1
    offset = zero_point.astype(np.float32).reshape(shape)
    numbers = (quantized_data.astype(np.float32) - offset) * scale.astype(np.float32).reshape(shape)
    return numbers.astype(scale.dtype)


@operator("constexpr_blockwise_shift_scale", folded=True)
def blockwise_shift_scale(data: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return (data - offset) * scale (iOS 18).

    Args:
        data: integer array of any shape.
        scale: float array of the rank of `data`, with one value per block of `data`: the size of each axis of
            `data` is a multiple of the size of the same axis of `scale`.
        offset: array of the shape of `scale` and the type of `data`; 0 by default.

    Returns:
        An array of `data`'s shape and the scale's type.

    Raises:
        ValueError: a size of `data` is not a multiple of the number of blocks.
    """
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
    """Return palettized weights: the look-up table's entry for each index.

    In iOS 16 there is one table, and `shape` is given. In iOS 18 there is one table for each block of the indices, and
    an entry is a vector, often of length 1.

    Args:
        indices: iOS 16: uint8 bytes (N,) with packed indices (see `unpack_bits`). iOS 18: unsigned integers (*D).
        lut: the tables. iOS 16: (entries,). iOS 18: (*blocks, entries, vector length), with one size in `blocks` for
            each axis of `indices`, whose size is a multiple of it.
        shape: iOS 16: the shape of the result.
        vector_axis: iOS 18: the axis of the result along which the vectors lie; required if their length is not 1.

    Returns:
        An array of the table's type: of shape `shape`, or that of `indices` with the size of `vector_axis` multiplied
        by the vector length.

    Raises:
        ValueError: `vector_axis` is missing, or `indices` has too few bytes.
    """
    if shape is not None:
        bits = (len(lut) - 1).bit_length()
        count = int(np.prod(shape, dtype=np.int64))
        dense: NDArray[Any] = lut[unpack_bits(indices, bits, count, signed=False)].reshape(shape)
        return dense
    size = lut.shape[-1]
    # For each axis: the number of the block, and so of the table, that an index belongs to.
    blocks = np.ix_(
        *(np.arange(have) // (have // tables) for have, tables in zip(indices.shape, lut.shape, strict=False))
    )
    vectors: NDArray[Any] = lut[(*blocks, indices)]
    if size == 1:
        return vectors.reshape(indices.shape)
    if vector_axis is None:
        raise ValueError(f"a look-up table of vectors of length {size} requires vector_axis")
    axis = vector_axis % indices.ndim
    result_shape = list(indices.shape)
    result_shape[axis] *= size
    return np.moveaxis(vectors, -1, axis + 1).reshape(result_shape)


def _along(value: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """Return a scalar unchanged, and a vector reshaped so that it broadcasts along `axis` of `x`."""
    if axis is None or value.ndim == 0:
        return value
    shape = [1] * x.ndim
    shape[axis] = -1
    return value.reshape(shape)


def spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Repeat each value over its block, up to `shape`.

    Args:
        values: array with one value per block.
        shape: the shape of the result, of the rank of `values`.

    Raises:
        ValueError: a size of `shape` is not a multiple of the number of blocks, or the ranks differ.
    """
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        if want % have:
            raise ValueError(f"axis {axis} has {want} elements, which is not a multiple of its {have} blocks")
        values = np.repeat(values, want // have, axis)
    return values
