"""Which tensor of a file is which of the traced model: the one that holds the same numbers.

Converters rename, merge and transpose. A range depends only on the numbers a tensor takes, in whatever order. So a
tensor is known by moments that do not depend on the order, on one probe batch: two of one fingerprint have one range.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.quantization import graph

TOLERANCE = 1e-3
"""Of a tensor's root mean square (of its largest magnitude for the extremes); float32 rounding is about 1e-5."""

Fingerprint = NDArray[np.float64]
"""Count and root mean square; over the latter: mean, cube root of the mean cube, mean magnitude, smallest, largest."""


def fingerprint(values: NDArray[Any]) -> Fingerprint:
    """Of a tensor of any shape and layout."""
    flat = np.asarray(values, np.float64).ravel()
    rms = float(np.sqrt(np.mean(flat**2))) if flat.size else 0.0
    scaled = flat / rms if rms else flat
    if not flat.size:
        return np.zeros(7)
    moments = [scaled.mean(), np.cbrt((scaled**3).mean()), np.abs(scaled).mean(), scaled.min(), scaled.max()]
    return np.array([flat.size, rms, *moments])


class _Fingerprints(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, Fingerprint] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op in ("call_function", "placeholder") and isinstance(value, Tensor) and value.is_floating_point():
            mine = fingerprint(value.numpy())
            # What only moved all numbers of another tensor is not told from it: the one that made them is meant.
            if graph.kind(n) != "layout" or mine[0] != self.found[graph.source(n).name][0]:
                self.found[n.name] = mine
        return value


def fingerprints(module: fx.GraphModule, images: Tensor) -> dict[str, Fingerprint]:
    """Of every tensor of a traced model, by its node, for normalized images (B, 3, H, W)."""
    runner = _Fingerprints(module)
    with torch.inference_mode():
        runner.run(images)
    return runner.found


def identify(known: Mapping[str, Fingerprint], found: Iterable[tuple[str, NDArray[Any]]]) -> dict[str, str]:
    """The node behind each tensor of a file, by the tensor's name; tensors without one are left out.

    Args:
        known: `fingerprints` of the traced model.
        found: the file's tensors, computed from the same images.
    """
    names, table = list(known), np.stack(list(known.values()))
    matches = {}
    for name, values in found:
        mine = fingerprint(values)
        distance = np.abs(table[:, 2:] - mine[2:])
        distance[:, 3:] /= np.maximum(np.abs(mine[5:]), 1)
        scale = np.abs(table[:, 1] - mine[1]) / max(mine[1], np.finfo(np.float64).tiny)
        distance = np.maximum(distance.max(axis=1), scale)
        distance[table[:, 0] != mine[0]] = np.inf
        nearest = int(distance.argmin())
        if distance[nearest] <= TOLERANCE:
            matches[name] = names[nearest]
    return matches
