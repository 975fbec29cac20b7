"""Match stored weights with layers: they hold the same numbers, up to a scale for each channel.

Scales are what integers leave out, and what the equalization of channels before them changes. Layouts differ too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.files import Stored

LAYOUTS = ((0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 1, 2))
"""Axes of a file's weights in the order of PyTorch's (outputs, inputs, rows, columns)."""
LEAST_EXPLAINED = 0.98
"""Least share of the energy of the weights that must be explained: rounding alone stays above it."""
_ROUNDS = 30


@dataclass(frozen=True)
class Match:
    """The place of a layer's weights in a file.

    Attributes:
        stored: the weights in the file.
        view: the same, writable, laid out as PyTorch's.
        scale: by what PyTorch's have to be multiplied; broadcasts with them.
        of_outputs: the part of it that belongs to the output channels, and so to the bias, (outputs,).
        explained: the share of the energy of `view` that PyTorch's weights, so scaled, explain.
    """

    stored: Stored
    view: NDArray[Any]
    scale: NDArray[np.float64]
    of_outputs: NDArray[np.float64]
    explained: float


def match(weight: NDArray[np.float32], stored: Iterable[Stored]) -> Match:
    """Find a layer's weights (outputs, inputs, rows, columns) or (outputs, inputs) in a file.

    Raises:
        ValueError: they are not there.
    """
    best: Match | None = None
    for item in stored:
        for view in _views(item.weight, weight.shape):
            outputs, inputs, explained = _scales(weight, view)
            if best is None or explained > best.explained:
                best = Match(item, view, outputs * inputs, outputs.ravel(), explained)
    if best is None or best.explained < LEAST_EXPLAINED:
        nearest = "nothing of this shape" if best is None else f"{best.stored.name} explains {best.explained:.0%}"
        raise ValueError(f"weights of shape {weight.shape} are not in the file: {nearest}")
    return best


def _views(values: NDArray[Any], shape: tuple[int, ...]) -> Iterable[NDArray[Any]]:
    """The views of stored weights that have PyTorch's shape."""
    four = shape if len(shape) == 4 else (*shape, 1, 1)
    if values.ndim == 4:
        turned = [values.transpose(axes) for axes in LAYOUTS]
    else:
        turned = [values[:, :, None, None], values.T[:, :, None, None]]
    for view in turned:
        # A depthwise TFLite kernel (1, rows, columns, channels) is (channels, 1, rows, columns) here.
        if view.shape == four:
            yield view.reshape(shape) if len(shape) == 4 else view[:, :, 0, 0]


def _scales(weight: NDArray[np.float32], view: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The factors of output and of input channels that bring PyTorch's weights nearest, and how near: least squares."""
    ours, theirs = weight.astype(np.float64), view.astype(np.float64)
    across_outputs = tuple(axis for axis in range(ours.ndim) if axis != 0)
    across_inputs = tuple(axis for axis in range(ours.ndim) if axis != 1)
    inputs = np.ones((1, ours.shape[1], *[1] * (ours.ndim - 2)))
    outputs = np.ones((ours.shape[0], *[1] * (ours.ndim - 1)))
    for _ in range(_ROUNDS):
        outputs = _fit(ours * inputs, theirs, across_outputs)
        inputs = _fit(ours * outputs, theirs, across_inputs)
        # What one gains the other may lose: the inputs' are 1 in the middle, as they are where nothing was equalized.
        middle = np.median(inputs[inputs > 0]) if (inputs > 0).any() else 1.0
        outputs, inputs = outputs * middle, inputs / middle
        if ours.shape[1] == 1:
            break
    energy = float((theirs**2).sum())
    left = float(((theirs - ours * outputs * inputs) ** 2).sum())
    return outputs, inputs, 1 - left / energy if energy else 0.0


def _fit(ours: NDArray[np.float64], theirs: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    energy = (ours**2).sum(axis=axes, keepdims=True)
    products = (ours * theirs).sum(axis=axes, keepdims=True)
    factors: NDArray[np.float64] = np.divide(products, energy, out=np.zeros_like(energy), where=energy > 0)
    return factors
