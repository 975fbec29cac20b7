"""Match tensors of an exported file to nodes of the traced model by their values.

Converters rename, merge and transpose tensors. A range depends only on a tensor's values, not on their order. Tensors
are therefore compared by moments that do not depend on the order, on one probe batch (fingerprints); two tensors with
the same fingerprint have the same range.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.quantization import graph

TOLERANCE = 1e-3
"""Largest difference, as a share of a tensor's root mean square (for the extremes: of its largest magnitude). float32
rounding is about 1e-5."""

Fingerprint = NDArray[np.float64]
"""(7,): count, root mean square; over it: mean, cube root of the mean cube, mean magnitude, smallest, largest."""


def fingerprint(values: NDArray[Any]) -> Fingerprint:
    """Return the fingerprint of a tensor of any shape and layout."""
    flat = np.asarray(values, np.float64).ravel()
    if not flat.size:
        return np.zeros(7)
    rms = float(np.sqrt(np.dot(flat, flat) / flat.size))
    scaled = flat / rms if rms else flat
    cubes = np.dot(scaled * scaled, scaled)  # numpy's power of 3 takes ten times as long
    moments = [scaled.mean(), np.cbrt(cubes / flat.size), np.abs(scaled).mean(), scaled.min(), scaled.max()]
    return np.array([flat.size, rms, *moments])


class _Fingerprints(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, names: Collection[str] | None) -> None:
        super().__init__(module)
        self._names = names
        self.found: dict[str, Fingerprint] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self._names is not None and n.name not in self._names:
            return value
        computed = n.op in ("call_function", "placeholder") and not graph.is_parameter(n)
        if computed and isinstance(value, Tensor) and value.is_floating_point():
            mine = fingerprint(value.numpy())
            # A tensor that only moves all numbers of another has its fingerprint: the one that computed them is kept.
            if graph.kind(n) != "layout" or mine[0] != self.found[graph.source(n).name][0]:
                self.found[n.name] = mine
        return value


def fingerprints(
    module: fx.GraphModule, images: Tensor, names: Collection[str] | None = None
) -> dict[str, Fingerprint]:
    """Return the fingerprint of every tensor of a traced model, by its node, for normalized images (B, 3, H, W).

    Args:
        module: the traced model.
        images: normalized.
        names: of nodes that compute numbers; None is all of them.
    """
    runner = _Fingerprints(module, names)
    with torch.inference_mode():
        runner.run(images)
    return runner.found


def identify(known: Mapping[str, Fingerprint], found: Iterable[tuple[str, NDArray[Any]]]) -> dict[str, str]:
    """Return the node that each tensor of a file corresponds to, by the tensor's name, where there is one.

    Args:
        known: `fingerprints` of the traced model.
        found: the file's tensors, computed from the same images.
    """
    return nearest(known, ((name, fingerprint(values)) for name, values in found))


def nearest(
    known: Mapping[str, Fingerprint], found: Iterable[tuple[str, Fingerprint]], tolerance: float = TOLERANCE
) -> dict[str, str]:
    """Return the node that has the same fingerprint, by the name of each other tensor, where there is one."""
    names, table = list(known), np.stack(list(known.values()))
    matches = {}
    for name, mine in found:
        distance = np.abs(table[:, 2:] - mine[2:])
        distance[:, 3:] /= np.maximum(np.abs(mine[5:]), 1)
        scale = np.abs(table[:, 1] - mine[1]) / max(mine[1], np.finfo(np.float64).tiny)
        distance = np.maximum(distance.max(axis=1), scale)
        distance[table[:, 0] != mine[0]] = np.inf
        best = int(distance.argmin())
        if distance[best] <= tolerance:
            matches[name] = names[best]
    return matches


def by_structure(
    module: fx.GraphModule,
    known: Mapping[str, Fingerprint],
    matches: Mapping[str, str],
    sizes: Mapping[str, int],
    inputs: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Return matches by value, and those of tensors that hold nothing but rounding errors, which have no values.

    The mean of what a normalization has centered is such a tensor. It is computed from tensors that are matched; if
    one node alone has the same sources and size, and no match yet, it is that node.

    Args:
        module: the traced model.
        known: its fingerprints.
        matches: nodes by the names of tensors, as `identify` returns them.
        sizes: number of values of each tensor of the file.
        inputs: what each tensor of the file is computed from, in the file's order; constants do not matter.
    """
    found = dict(matches)
    readers: dict[frozenset[str], list[str]] = {}
    for node in module.graph.nodes:
        if node.name in known and node.op == "call_function":
            sources = frozenset(graph.source(item).name for item in graph.activations(node))
            readers.setdefault(sources, []).append(node.name)
    for name, read in inputs.items():
        computed = [item for item in read if item in sizes]
        if name in found or name not in sizes or not all(item in found for item in computed):
            continue
        taken = set(found.values())
        free = [
            item
            for item in readers.get(frozenset(found[item] for item in computed), ())
            if item not in taken and known[item][0] == sizes[name]
        ]
        if len(free) == 1:
            found[name] = free[0]
    return found
