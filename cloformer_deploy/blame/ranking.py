"""Layers ranked by the error that enters in each, and by what it does to the logits."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx

from cloformer_deploy.blame.layers import Group, ancestors_among
from cloformer_deploy.blame.node_errors import Errors, Injection, NodeError, logits_of
from cloformer_deploy.quantization.sensitivity import centered
from cloformer_deploy.validation.drift import SQNR_CEILING_DB

CANDIDATES = 32
"""Layers whose effect on the logits is computed on all images."""
WORSE_DB = 6.0
"""How much worse than in a fresh export a node is that has a fault."""
UNHARMFUL_DB = 85.0
"""What is better is no fault, whatever a fresh export has: float32 rounding alone may be 90 dB."""


@dataclass(frozen=True)
class Layer:
    """What one layer of a file adds to its error.

    Attributes:
        path: of its module, as in the published state dict.
        kind: of its operator.
        depth: which layer it is, from 0 on, in the order of the model.
        sqnr_db: of what it computes, from what the file itself gives it: of its worst node.
        reexport_sqnr_db: the same in a fresh export; None where there is none to compare with.
        cumulative_db: of what it leaves, against the float model: of all errors so far.
        logit_noise: the energy that its error alone adds to the mean-centered logits, as a share of theirs; infinite
            where they are NaN.
        share: of `logit_noise` of all layers; 1 where they are NaN.
        fault: whether it computes what a fresh export does not, and nothing before it does so.
        non_finite: whether NaN or infinity enters in it.
        nodes: of the traced model.
    """

    path: str
    kind: str
    depth: int
    sqnr_db: float
    reexport_sqnr_db: float | None
    cumulative_db: float
    logit_noise: float = 0.0
    share: float = 0.0
    fault: bool = False
    non_finite: bool = False
    nodes: tuple[str, ...] = field(default=(), repr=False)


def faulty_nodes(traced: fx.GraphModule, suspect: Errors, fresh: Errors) -> Mapping[str, bool]:
    """The nodes that add more error than in a fresh export; of each whether none that it computes from does.

    What lies behind a fault may do worse only because it is given what its ranges do not hold.
    """
    found = {name for name, error in suspect.items() if name in fresh and _is_worse(error, fresh[name])}
    return {name: not behind for name, behind in ancestors_among(traced, found).items()}


def _is_worse(suspect: NodeError, fresh: NodeError) -> bool:
    if suspect.non_finite:
        return not fresh.non_finite
    return suspect.sqnr_db < min(fresh.sqnr_db - WORSE_DB, UNHARMFUL_DB)


def layers(groups: Sequence[Group], suspect: Errors, fresh: Errors, faults: Mapping[str, bool]) -> list[Layer]:
    """The layers in the order of the model, without their effect on the logits."""
    made: list[Layer] = []
    for group in groups:
        known = [name for name in group.nodes if name in suspect]
        if not known:
            continue
        worst = min(known, key=lambda name: suspect[name].sqnr_db)
        both = [fresh[name].sqnr_db for name in known if name in fresh]
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


class LogitNoise:
    """Accumulates, batch by batch, what each layer's error alone does to the logits of the float model.

    The first batch is for all layers that add an error, the others for those that it shows to be the worst.
    """

    def __init__(self, traced: fx.GraphModule, found: Iterable[Layer]) -> None:
        self._faults = {layer.path for layer in found if layer.fault}
        self._injections = {
            layer.path: Injection(traced, layer.nodes)
            for layer in found
            if not layer.non_finite and layer.sqnr_db < SQNR_CEILING_DB
        }
        self._energies: dict[str, tuple[float, float]] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the layers that the next batch is for."""
        return tuple(self._injections)

    def add(self, floats: Mapping[fx.Node, Any], errors: Mapping[str, Tensor], advance: Callable[[], None]) -> None:
        """Of one batch: what the float model computes, and the error that each node adds."""
        exact = centered(logits_of(floats))
        energy = float(exact.square().sum())
        for path, injection in self._injections.items():
            added = float((centered(injection.logits(floats, errors)) - exact).square().sum())
            noise, signal = self._energies.get(path, (0.0, 0.0))
            self._energies[path] = (noise + (added if added == added else float("inf")), signal + energy)
            advance()
        worst = sorted(self._injections, key=lambda path: (path in self._faults, self.of(path)), reverse=True)
        self._injections = {path: self._injections[path] for path in worst[:CANDIDATES]}

    def of(self, path: str) -> float:
        """As a share of the energy of the logits of the batches that were for it."""
        noise, signal = self._energies.get(path, (0.0, 0.0))
        return noise / signal if signal else noise


def ranked(found: Sequence[Layer], noise: LogitNoise) -> tuple[Layer, ...]:
    """The layers, worst first: where NaN enters, then faults, then by what each does to the logits."""
    noises = {layer.path: float("inf") if layer.non_finite else noise.of(layer.path) for layer in found}
    total = sum(value for value in noises.values() if math.isfinite(value))

    def share(value: float) -> float:
        return 1.0 if math.isinf(value) else value / total if total else 0.0

    measured = [replace(layer, logit_noise=noises[layer.path], share=share(noises[layer.path])) for layer in found]
    return tuple(
        sorted(measured, key=lambda layer: (not layer.non_finite, not layer.fault, -layer.logit_noise, layer.sqnr_db))
    )
