"""Match tensors of a file to nodes of the traced model, and find the order of their axes, on a sound file.

The nodes' results are compared with the tensors of the file, from the input on: each node computes from what the file
itself has, so that the rounding of integers or float16 does not accumulate. A faulty file of the same graph has the
same tensor names: the matching is carried over to it by name.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.backends.base import Tensors
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.tensor_matching import Fingerprint, fingerprint
from cloformer_deploy.tasks.distances import sqnr_db

SMALLEST_SQNR_DB = 9.0
"""Lowest SQNR of a tensor that is matched to a node. 8 bits alone give 13 to 45 dB, unlike tensors about 0 dB."""
_SURE_DB = 60.0
_LOOSE = 0.3
"""Largest relative difference of moments at which the values themselves are compared."""


@dataclass(frozen=True)
class Match:
    """A node's tensor in the file: its name, and the order of its axes that gives the node's numbers."""

    tensor: str
    axes: tuple[int, ...]

    def read(self, tensors: Tensors, shape: torch.Size) -> Tensor | None:
        """Return the tensor in the node's layout and shape; None where the file has no such tensor."""
        found = tensors.get(self.tensor)
        if found is None or found.values.size != shape.numel() or found.values.ndim != len(self.axes):
            return None
        return torch.from_numpy(np.ascontiguousarray(found.values.transpose(self.axes))).reshape(shape)


def align(
    module: fx.GraphModule, images: Tensor, tensors: Tensors, rounded: Collection[str] = ()
) -> Mapping[str, Match]:
    """Return the tensor of each node that computes new values, by the node's name; nodes without one are left out.

    Args:
        module: the traced model.
        images: normalized (B, 3, H, W).
        tensors: what a sound file computes from the same images.
        rounded: names of nodes whose outputs are integers; their tensors on a grid are preferred, because these are
            what later nodes read.
    """
    aligner = _Aligner(module, tensors, rounded)
    with torch.inference_mode():
        aligner.run(images)
    return aligner.matches


class _Aligner(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, tensors: Tensors, rounded: Collection[str]) -> None:
        super().__init__(module)
        self._tensors, self._rounded = tensors, rounded
        self._prints: dict[int, list[tuple[str, Fingerprint]]] = {}
        for name, tensor in tensors.items():
            self._prints.setdefault(tensor.values.size, []).append((name, fingerprint(tensor.values)))
        self._taken: set[str] = set()
        self.matches: dict[str, Match] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if not is_measured(n, value):
            return value
        match = self._find(n.name, value)
        if match is None:
            return value
        self.matches[n.name] = match
        self._taken.add(match.tensor)
        return match.read(self._tensors, value.shape)

    def _find(self, node: str, value: Tensor) -> Match | None:
        wanted = value.numpy()
        mine = fingerprint(wanted)
        near = [
            (name, *found)
            for name, theirs in self._prints.get(wanted.size, ())
            if name not in self._taken and _alike(mine, theirs)
            for found in [_best_axes(wanted, self._tensors[name].values)]
            if found[0] >= SMALLEST_SQNR_DB
        ]
        if node in self._rounded:
            near = [item for item in near if self._tensors[item[0]].on_grid] or near
        if not near:
            return None
        name, _, axes = max(near, key=lambda item: item[1])
        return Match(name, axes)


def is_measured(node: fx.Node, value: Any) -> bool:
    """Tell whether a node computes new values; one that only moves values cannot be told from its input."""
    return (
        node.op in ("call_function", "placeholder")
        and graph.kind(node) != "layout"
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and value.numel() > 1
    )


def _alike(mine: Fingerprint, theirs: Fingerprint) -> bool:
    """Tell whether two tensors of one size may be equal, by their root mean squares and their means over these."""
    if not mine[1] > 0 or not theirs[1] > 0:
        return False
    return bool(abs(theirs[1] / mine[1] - 1) < _LOOSE and np.abs(mine[[2, 4]] - theirs[[2, 4]]).max() < _LOOSE)


def _best_axes(wanted: NDArray[Any], found: NDArray[Any]) -> tuple[float, tuple[int, ...]]:
    """Return the highest SQNR, dB, of a tensor against the wanted one over the orders of its axes, and that order."""
    best: tuple[float, tuple[int, ...]] = (-np.inf, tuple(range(found.ndim)))
    for axes in _orders(wanted.shape, found.shape):
        moved = found.transpose(axes).reshape(wanted.shape)
        made = sqnr_db(float(np.square(wanted).sum()), float(np.square(moved - wanted).sum()))
        best = max(best, (made, axes))
        if best[0] > _SURE_DB:
            break
    return best


def _orders(wanted: tuple[int, ...], found: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of axes to try; axes of size 1 come first, where they change nothing.

    If some orders have the wanted sizes, only these are yielded; else all, each of which needs a reshape.
    """
    ones = [axis for axis, side in enumerate(found) if side == 1]
    others = [axis for axis, side in enumerate(found) if side != 1]
    orders = list(permutations(others))
    sizes = [side for side in wanted if side != 1]
    fitting = [order for order in orders if [found[axis] for axis in order] == sizes]
    for order in fitting or orders:
        yield (*ones, *order)
