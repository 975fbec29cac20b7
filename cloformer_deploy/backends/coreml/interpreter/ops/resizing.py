"""Operations that change the size of maps.

Sources in coremltools' MIL operations: iOS15/image_resizing.py and iOS16/image_resizing.py. The last two axes are rows
and columns, and sizes of the result are rounded down.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator

_ONE = np.ones((), np.int32)


@operator("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: NDArray[Any] = _ONE,
    scale_factor_width: NDArray[Any] = _ONE,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Interpolate linearly along rows and columns.

    Args:
        x: (..., rows, columns).
        scale_factor_height: factor of the rows, whole or not.
        scale_factor_width: factor of the columns.
        align_corners: the first and last samples are those of x.
        half_pixel_centers: samples are taken at the centers of pixels; by default where corners are not aligned.

    Raises:
        ValueError: both alignments are asked for.
    """
    centered = not align_corners if half_pixel_centers is None else half_pixel_centers
    if centered and align_corners:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        x = _interpolated(x, axis, int(x.shape[axis] * float(factor)), corners=align_corners, centered=centered)
    return x


@operator("crop", rounded=False)
def crop(x: Tensor, crop_height: tuple[int, ...], crop_width: tuple[int, ...]) -> Tensor:
    """Return x, (..., rows, columns), without the first and last rows and columns that the pairs count."""
    for axis, (before, after) in ((-2, crop_height), (-1, crop_width)):
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def _interpolated(x: Tensor, axis: int, count: int, *, corners: bool, centered: bool) -> Tensor:
    size = x.shape[axis]
    places = torch.arange(count, dtype=torch.float64)
    if corners:
        places = places * ((size - 1) / max(count - 1, 1))
    else:
        places = places * (size / count) + (0.5 * size / count - 0.5 if centered else 0.0)
    places = places.clamp(0, size - 1)
    before = places.floor().long()
    after = (before + 1).clamp(max=size - 1)
    shape = [1] * x.ndim
    shape[axis] = count
    share = (places - before).float().reshape(shape)
    low, high = x.index_select(axis, before), x.index_select(axis, after)
    return low + (high - low) * share


@operator("upsample_nearest_neighbor", rounded=False)
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: NDArray[Any] = _ONE, scale_factor_width: NDArray[Any] = _ONE
) -> Tensor:
    """Repeat rows and columns: sample i of the result is sample floor(i / factor) of x, (..., rows, columns)."""
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        count = int(x.shape[axis] * float(factor))
        places = (torch.arange(count, dtype=torch.float64) / float(factor)).floor().long()
        x = x.index_select(axis, places.clamp(max=x.shape[axis] - 1))
    return x
