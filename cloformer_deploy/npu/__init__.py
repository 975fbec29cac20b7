"""The registry of NPUs, and of what else tells where operators run.

To add one: a file with a class that follows `base.Npu`, and an entry in `NPUS` for each architecture.
"""

from collections.abc import Mapping
from typing import TypeVar

from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import RequestError
from cloformer_deploy.npu.base import SIMULATED_IMAGES, Compiled, Estimate, Layer, Npu, Placed, Placer, no_artifact
from cloformer_deploy.npu.ethos_u import ETHOS_US
from cloformer_deploy.npu.hexagon import HEXAGONS
from cloformer_deploy.npu.neural_engine import NeuralEngine
from cloformer_deploy.npu.xnnpack import Xnnpack

__all__ = [
    "NPUS",
    "PLACERS",
    "SIMULATED_IMAGES",
    "Compiled",
    "Estimate",
    "Layer",
    "Npu",
    "Placed",
    "Placer",
    "asked_by_export",
    "no_artifact",
    "npu_of",
    "placer_of",
    "placers_of",
]

_Entry = TypeVar("_Entry")
_ALL: tuple[Npu, ...] = (*HEXAGONS, *ETHOS_US)
NPUS: dict[str, Npu] = {item.name: item for item in _ALL}

_ASKED = ("hexagon-v73", "ethos-u55-256", "ethos-u65-512", "ethos-u85-1024")
"""One of each generation that places operators in its own way: these an export asks."""


def asked_by_export(kind: ArtifactKey) -> tuple[Npu, ...]:
    """Return the NPUs that compile a file of a kind before it is listed; none if it is for no NPU."""
    return tuple(NPUS[name] for name in _ASKED if NPUS[name].takes(kind))


PLACERS: dict[str, Placer] = {**NPUS, **{item.name: item for item in (NeuralEngine(), Xnnpack())}}
"""Everything that `--placement` takes, by its name."""


def placers_of(kind: ArtifactKey) -> tuple[Placer, ...]:
    """Return what tells the placement of files of a kind in a report: the NPUs that an export asks, and all others."""
    return (*asked_by_export(kind), *(item for name, item in PLACERS.items() if name not in NPUS and item.takes(kind)))


def placer_of(name: str) -> Placer:
    """Return what tells the placement of a name.

    Raises:
        RequestError: there is nothing of that name.
    """
    return _known(PLACERS, name, f"no placement on {name!r} is known")


def npu_of(name: str) -> Npu:
    """Return the NPU of a name.

    Raises:
        RequestError: there is none of that name.
    """
    return _known(NPUS, name, f"the NPU {name!r} is not known")


def _known(registry: Mapping[str, _Entry], name: str, problem: str) -> _Entry:
    if name not in registry:
        raise RequestError(problem, f"give one of {', '.join(registry)}")
    return registry[name]
