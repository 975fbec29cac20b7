"""Operations that rearrange, select or add elements.

Sources in coremltools' MIL operations: iOS15/tensor_transformation.py, iOS15/tensor_operation.py and their iOS 17
versions. The results have the element type of the (first) tensor.
"""

from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator


@operator("reshape", rounded=False)
def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the elements of x in another shape.

    Args:
        x: tensor of any shape.
        shape: the new shape. One size may be -1: it follows from the number of elements. A size of 0 stands for the
            size of the same axis of x, counted from the last axis; it is 1 if x has no such axis. (Before iOS 17 a 0
            required equal ranks, for which this rule has the same result.)
    """
    missing = (0,) * (len(shape) - x.ndim)
    own = (*(1 for _ in missing), *x.shape)[-len(shape) :] if shape else ()
    return x.reshape([size or same for size, same in zip(shape, own, strict=True)])


@operator("transpose", rounded=False)
def transpose(x: Tensor, perm: tuple[int, ...]) -> Tensor:
    """Permute the axes of x: axis i of the result is axis perm[i] of x; negative axes count from the end."""
    return x.permute(perm)


@operator("squeeze", rounded=False)
def squeeze(x: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """Remove axes of size 1 from x: those of `axes`, or all of them by default."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@operator("expand_dims", rounded=False)
def expand_dims(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Insert axes of size 1 into x; `axes` are their positions in the result, and may be negative."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("split", rounded=False)
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: tuple[int, ...] | None = None
) -> tuple[Tensor, ...]:
    """Split x along `axis` into parts of `split_sizes` elements, or into `num_splits` equal parts."""
    if split_sizes is None:
        return x.tensor_split(num_splits or 0, axis)
    return torch.split_with_sizes(x, list(split_sizes), axis)


@operator("concat", rounded=False)
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """Concatenate tensors along `axis`.

    Args:
        values: tensors whose shapes differ at most in `axis`; with `interleave`, tensors of one shape.
        axis: the axis; may be negative.
        interleave: if True, take one element along `axis` from each tensor in turn instead of whole tensors.
    """
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@operator("slice_by_index", rounded=False)
def slice_by_index(
    x: Tensor,
    begin: tuple[int, ...],
    end: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    begin_mask: tuple[bool, ...] | None = None,
    end_mask: tuple[bool, ...] | None = None,
    squeeze_mask: tuple[bool, ...] | None = None,
) -> Tensor:
    """Return x[begin[0]:end[0]:stride[0], begin[1]:end[1]:stride[1], ...] with the rules of numpy.

    Args:
        x: tensor of any shape.
        begin: the first index of each axis.
        end: the index after the last of each axis.
        stride: the step of each axis; may be negative, is 1 by default.
        begin_mask: True for each axis whose `begin` is ignored: the slice starts at the first element, or at the last
            one if the step is negative.
        end_mask: True for each axis whose `end` is ignored: the slice covers the rest of the axis.
        squeeze_mask: True for each axis of which only the index `begin` is taken, and which is then removed.
    """
    no_mask = (False,) * x.ndim
    masks = zip(begin_mask or no_mask, end_mask or no_mask, squeeze_mask or no_mask, strict=True)
    bounds = zip(begin, end, stride or (1,) * x.ndim, strict=True)
    squeezed = []
    for axis, ((first, last, step), (from_start, to_end, is_single)) in enumerate(zip(bounds, masks, strict=True)):
        size = x.shape[axis]
        if is_single:
            squeezed.append(axis)
            x = x.narrow(axis, first % size, 1)
            continue
        indices = range(*slice(None if from_start else first, None if to_end else last, step).indices(size))
        # The elements are selected by index, because slices in torch do not support negative steps.
        x = x.index_select(axis, torch.tensor(indices, dtype=torch.int64))
    return x.squeeze(squeezed) if squeezed else x


@operator("slice_by_size", rounded=False)
def slice_by_size(x: Tensor, begin: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Return `size` elements of each axis, starting at `begin`.

    Args:
        x: tensor of any shape.
        begin: the first index of each axis; may be negative.
        size: the number of elements of each axis; -1 stands for all that follow `begin`.
    """
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first %= x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


@operator("pad")
def pad(x: Tensor, pad: tuple[int, ...], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Add elements before and after the last axes of x.

    Args:
        x: tensor of any shape.
        pad: for each of the last len(pad) / 2 axes, the number of elements to add before and after it.
        mode: "constant", "reflect" (without repeating the element at the edge) or "replicate" (the element at the
            edge).
        constant_val: the value of the added elements in the mode "constant".
    """
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    # torch lists the last axis first. For "reflect" and "replicate" it supports at most three padded axes, after
    # exactly two others, so axes at the beginning that need no padding are combined into one.
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    flat = [size for pair in reversed(pairs) for size in pair]
    if mode == "constant":
        return functional.pad(x, flat, value=constant_val)
    kept = x.shape[: x.ndim - len(pairs)]
    padded = functional.pad(x.reshape(1, prod(kept), *x.shape[len(kept) :]), flat, mode=mode)
    return padded.reshape(kept + padded.shape[2:])
