"""Operations that move elements without computing (MIL: tensor_transformation, tensor_operation)."""

from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator


@operator("reshape", rounded=False)
def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Give x another shape; -1 stands for what is left, 0 for x's own size there.

    With 0 the shapes are aligned at their ends (iOS 17; earlier the ranks had to be equal, which is the
    same), and a 0 beyond x's rank is 1.
    """
    missing = (0,) * (len(shape) - x.ndim)
    own = (*(1 for _ in missing), *x.shape)[-len(shape) :] if shape else ()
    return x.reshape([size or same for size, same in zip(shape, own, strict=True)])


@operator("transpose", rounded=False)
def transpose(x: Tensor, perm: tuple[int, ...]) -> Tensor:
    """Put the axes of x into the order `perm`."""
    return x.permute(perm)


@operator("squeeze", rounded=False)
def squeeze(x: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """Drop those of the `axes` that have size 1; by default all that do."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@operator("expand_dims", rounded=False)
def expand_dims(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Insert axes of size 1; `axes` are those of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("split", rounded=False)
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: tuple[int, ...] | None = None
) -> tuple[Tensor, ...]:
    """Cut x along `axis`, into `split_sizes` or into `num_splits` equal parts."""
    if split_sizes is None:
        return x.tensor_split(num_splits or 0, axis)
    return torch.split_with_sizes(x, list(split_sizes), axis)


@operator("concat", rounded=False)
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """The values along `axis`, one after the other, or taking turns element by element."""
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
    """x[begin:end:stride] on every axis as numpy slices; a mask means the axis's end, or one index alone."""
    none = (False,) * x.ndim
    masks = zip(begin_mask or none, end_mask or none, squeeze_mask or none, strict=True)
    bounds = zip(begin, end, stride or (1,) * x.ndim, strict=True)
    squeezed = []
    for axis, ((first, last, step), (from_start, to_end, alone)) in enumerate(zip(bounds, masks, strict=True)):
        size = x.shape[axis]
        if alone:
            squeezed.append(axis)
            x = x.narrow(axis, first % size, 1)
            continue
        indices = range(*slice(None if from_start else first, None if to_end else last, step).indices(size))
        # torch has no negative steps.
        x = x.index_select(axis, torch.tensor(indices, dtype=torch.int64))
    return x.squeeze(squeezed) if squeezed else x


@operator("slice_by_size", rounded=False)
def slice_by_size(x: Tensor, begin: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """`size` elements of every axis from `begin` on; size -1 is all the rest."""
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first %= x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


@operator("pad")
def pad(x: Tensor, pad: tuple[int, ...], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Add pad[2i] elements before and pad[2i + 1] after each of the last len(pad) / 2 axes."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    # torch pads the last axis first; it mirrors and repeats only up to three axes, behind two others.
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    flat = [size for pair in reversed(pairs) for size in pair]
    if mode == "constant":
        return functional.pad(x, flat, value=constant_val)
    kept = x.shape[: x.ndim - len(pairs)]
    padded = functional.pad(x.reshape(1, prod(kept), *x.shape[len(kept) :]), flat, mode=mode)
    return padded.reshape(kept + padded.shape[2:])
