"""Shapes of tensors, for every way of tracing."""

import warnings

import torch
from torch import Tensor
from torch.jit import TracerWarning  # type: ignore[attr-defined]


def sizes(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor.

    `torch.jit.trace` records the reading of a shape, and arithmetic with it, as operators, which coremltools cannot
    convert ("only 0-dimensional arrays can be converted"): while it traces, plain numbers are returned.
    """
    if not torch._C._is_tracing():
        return tuple(x.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return tuple(int(side) for side in x.shape)
