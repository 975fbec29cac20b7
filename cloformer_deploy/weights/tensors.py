"""Tensors of weights files: their type, layout and size are checked before memory is allocated for them."""

import math
from typing import Any

import torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.text import clipped
from cloformer_deploy.weights.records import Record, TensorRecord
from cloformer_deploy.weights.torch_files import COPY_AGAIN, SAVE_AGAIN

_COUNTER = ".num_batches_tracked"
_WEIGHT_DTYPES = ("float32", "float16", "bfloat16", "float64")


def usable_shape(name: str, value: Any, file_bytes: int) -> tuple[int, ...]:
    """Return the shape of an entry of a state dict, after checking that it can be read and converted.

    Args:
        name: of the entry.
        value: of the entry, of any type.
        file_bytes: size of the file, which no tensor may exceed.

    Raises:
        CheckpointError: the entry is no dense tensor of a supported dtype, or is larger than the file.
    """
    what = f"{clipped(name)} is"
    if isinstance(value, Record):
        if value.name.startswith("torch._utils._rebuild"):
            raise CheckpointError(f"{what} sparse, quantized, nested or without data, not a dense tensor", SAVE_AGAIN)
        raise CheckpointError(f"{what} of type {clipped(value.name)}, not a tensor", SAVE_AGAIN)
    if not isinstance(value, Tensor | TensorRecord):
        raise CheckpointError(f"{what} of type {type(value).__name__}, not a tensor", SAVE_AGAIN)
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _WEIGHT_DTYPES and not (name.endswith(_COUNTER) and dtype == "int64"):
        raise CheckpointError(
            f"{what} {clipped(dtype)}, not float32, float16, bfloat16 or float64", "save the weights as float32"
        )
    shape = tuple(value.shape)
    size = math.prod(shape) * getattr(torch, dtype).itemsize
    # With a stride of 0 a single stored number can be a tensor of any size.
    if size > file_bytes:
        raise CheckpointError(f"{what} a tensor of {size} bytes in a file of {file_bytes} bytes", SAVE_AGAIN)
    return shape


def converted(name: str, tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor, float32 (counters: int64).

    Raises:
        CheckpointError: a value is NaN or infinite, or a variance is negative.
    """
    if name.endswith(_COUNTER):
        return tensor.clone() if tensor.dtype == torch.int64 else torch.zeros((), dtype=torch.int64)
    converted = tensor.to(torch.float32).clone(memory_format=torch.contiguous_format)
    bad = ~torch.isfinite(converted)
    if bad.any():
        nan = int(torch.isnan(converted).sum())
        infinite = int(bad.sum()) - nan
        raise CheckpointError(
            f"{name} has {nan} NaN and {infinite} infinite values (as float32) of {converted.numel()}",
            "pass a checkpoint that was saved before the training diverged",
        )
    if name.endswith("running_var") and (converted < 0).any():
        raise CheckpointError(
            f"{name} has {int((converted < 0).sum())} negative values, which become NaN in inference", COPY_AGAIN
        )
    return converted
