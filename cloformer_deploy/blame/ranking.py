"""Rank layers by the error that each adds, and by its effect on the outputs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.blame.layers import Group, ancestors_among
from cloformer_deploy.blame.node_errors import Errors, Injection, NodeError, outputs_of
from cloformer_deploy.tasks import Output
from cloformer_deploy.tasks.distances import SQNR_CEILING_DB, compared, named_outputs

CANDIDATES = 32
"""Number of layers whose effect on the outputs is computed on all images."""
WORSE_DB = 6.0
"""A node has a fault if its SQNR is lower than in a re-export by more than this."""
UNHARMFUL_DB = 85.0
"""An SQNR above this is no fault, whatever a re-export has: float32 rounding alone may be 90 dB."""


@dataclass(frozen=True)
class Layer:
    """The error that one layer of a file adds.

    Attributes:
        path: module name, as in the published state dict.
        kind: kind of its main operator.
        depth: index of the layer, in the order of the model.
        sqnr_db: SQNR of its own computation, on the inputs that the file gives it; of its worst node.
        reexport_sqnr_db: the same in a re-export; None where there is none to compare with.
        cumulative_db: SQNR of its output against the float model: of all errors so far.
        output_noise: energy that its error alone adds to the model's outputs, as a share of theirs; infinite where they
            are NaN.
        share: its share of the `output_noise` of all layers; 1 where the outputs are NaN.
        fault: it computes something else than in a re-export, and no layer before it does.
        non_finite: NaN or infinity first occurs in it.
        nodes: names of its nodes in the traced model.
    """

    path: str
    kind: str
    depth: int
    sqnr_db: float
    reexport_sqnr_db: float | None
    cumulative_db: float
    output_noise: float = 0.0
    share: float = 0.0
    fault: bool = False
    non_finite: bool = False
    nodes: tuple[str, ...] = field(default=(), repr=False)


def faulty_nodes(traced: fx.GraphModule, suspect: Errors, reexported: Errors) -> Mapping[str, bool]:
    """Return the nodes that add more error than in a re-export; for each, whether none of its inputs does.

    A node after a fault may be worse only because its inputs are outside its ranges.
    """
    found = {name for name, error in suspect.items() if name in reexported and _is_worse(error, reexported[name])}
    return {name: not behind for name, behind in ancestors_among(traced, found).items()}


def _is_worse(suspect: NodeError, reexported: NodeError) -> bool:
    if suspect.non_finite:
        return not reexported.non_finite
    return suspect.sqnr_db < min(reexported.sqnr_db - WORSE_DB, UNHARMFUL_DB)


def layers(groups: Sequence[Group], suspect: Errors, reexported: Errors, faults: Mapping[str, bool]) -> list[Layer]:
    """Return the layers in the order of the model, without their effect on the outputs."""
    made: list[Layer] = []
    for group in groups:
        known = [name for name in group.nodes if name in suspect]
        if not known:
            continue
        worst = min(known, key=lambda name: suspect[name].sqnr_db)
        both = [reexported[name].sqnr_db for name in known if name in reexported]
        made.append(
            Layer(
                path=group.path,
                kind=group.kind,
                depth=len(made),
                sqnr_db=suspect[worst].sqnr_db,
                reexport_sqnr_db=min(both, default=None),
                cumulative_db=suspect[known[-1]].cumulative_db,
                fault=any(faults.get(name, False) for name in known),
                non_finite=any(suspect[name].non_finite for name in known),
                nodes=tuple(known),
            )
        )
    return made


class OutputNoise:
    """The effect of each layer's error alone on the outputs of the float model, accumulated batch by batch.

    The first batch is for all layers that add an error, the others for those that it shows to be the worst.
    """

    def __init__(self, traced: fx.GraphModule, found: Iterable[Layer], outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._faults = {layer.path for layer in found if layer.fault}
        self._injections = {
            layer.path: Injection(traced, layer.nodes)
            for layer in found
            if not layer.non_finite and layer.sqnr_db < SQNR_CEILING_DB
        }
        self._energies: dict[str, tuple[float, float]] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the layers that the next batch is for."""
        return tuple(self._injections)

    def add(self, floats: Mapping[fx.Node, Any], errors: Mapping[str, Tensor], advance: Callable[[], None]) -> None:
        """Add one batch.

        Args:
            floats: what the float model computes, by node.
            errors: the error that each node adds, by name.
            advance: is called after each layer.
        """
        exact = self._values(outputs_of(floats))
        energy = float((exact**2).sum())
        for path, injection in self._injections.items():
            added = float(((self._values(injection.outputs(floats, errors)) - exact) ** 2).sum())
            noise, signal = self._energies.get(path, (0.0, 0.0))
            self._energies[path] = (noise + (added if added == added else float("inf")), signal + energy)
            advance()
        worst = sorted(self._injections, key=lambda path: (path in self._faults, self.of(path)), reverse=True)
        self._injections = {path: self._injections[path] for path in worst[:CANDIDATES]}

    def _values(self, outputs: Any) -> NDArray[np.float64]:
        return compared(named_outputs(outputs, self._outputs), self._outputs)

    def of(self, path: str) -> float:
        """Return a layer's noise as a share of the energy of the outputs of the batches that were for it."""
        noise, signal = self._energies.get(path, (0.0, 0.0))
        return noise / signal if signal else noise


def ranked(found: Sequence[Layer], noise: OutputNoise) -> tuple[Layer, ...]:
    """Return the layers, worst first: where NaN first occurs, then faults, then by effect on the outputs."""
    noises = {layer.path: float("inf") if layer.non_finite else noise.of(layer.path) for layer in found}
    total = sum(value for value in noises.values() if math.isfinite(value))

    def share(value: float) -> float:
        return 1.0 if math.isinf(value) else value / total if total else 0.0

    measured = [replace(layer, output_noise=noises[layer.path], share=share(noises[layer.path])) for layer in found]
    return tuple(
        sorted(measured, key=lambda layer: (not layer.non_finite, not layer.fault, -layer.output_noise, layer.sqnr_db))
    )
