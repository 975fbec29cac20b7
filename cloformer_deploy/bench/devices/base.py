"""What every device has in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.bench.protocol import Figures
from cloformer_deploy.bench.protocol import Protocol as Measuring
from cloformer_deploy.bench.results import Conditions, Source
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.progress import Progress


@dataclass(frozen=True)
class Options:
    """How devices are reached, for those it concerns.

    Attributes:
        python: the Python there that runs our runner.
        adb: the adb program; None looks on PATH, then into the package adbutils.
        benchmark_binary: TFLite's benchmark_model for the device, for one without Python.
        download: allow to fetch it.
    """

    python: str = "python3"
    adb: Path | None = None
    benchmark_binary: Path | None = None
    download: bool = False


@dataclass(frozen=True)
class Load:
    """An artifact to be timed.

    Attributes:
        artifact: its manifest entry.
        path: of the file, or of the .mlpackage folder, checked against the manifest.
        image: what it is given, in the layout and type of its own input, batch included.
    """

    artifact: Artifact
    path: Path
    image: NDArray[np.float32] | NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """What is asked of a device.

    Attributes:
        loads: the artifacts, to be timed in turn.
        threads: for each runtime.
        cores: numbers of the cores to keep to; None leaves it to the system.
        protocol: how long.
        timeout_s: after which whatever is not done has failed.
    """

    loads: Sequence[Load]
    threads: int
    cores: tuple[int, ...] | None
    protocol: Measuring
    timeout_s: float


@dataclass(frozen=True)
class Measured:
    """One artifact on a device, on one of its units where it has several, or why there are no figures.

    Attributes:
        rounds_ms: a typical run of each round; all artifacts that were measured together have the same rounds.
        logits: what it computed, (B, classes) flattened, where the device tells.

    The others are `Result`'s.
    """

    artifact: Artifact
    status: Literal["measured", "failed", "not_executed"]
    reason: str | None = None
    runtime: str | None = None
    runtime_version: str | None = None
    figures: Figures | None = None
    rounds_ms: tuple[float, ...] = ()
    init_ms: float | None = None
    first_ms: float | None = None
    peak_rss_bytes: int | None = None
    logits: tuple[float, ...] | None = None
    unit: str | None = None
    placement: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Answer:
    """What a device says: itself, how it was, and of each artifact at least one answer, in the request's order."""

    machine: str | None
    source: Source
    cores: tuple[int, ...] | None
    before: Conditions | None
    after: Conditions | None
    measured: tuple[Measured, ...]


class Device(Protocol):
    """Something that times artifacts. Heavy imports and connections wait for the call."""

    name: str
    """As it is asked for: `adb:SERIAL`."""

    def measure(self, request: Request, progress: Progress) -> Answer:
        """Time artifacts; nothing is left on the device or running there, however it ends.

        Raises:
            RequestError: there is no such device.
            MissingPartError: a part is missing, here or there.
            ToolError: the device or the connection failed.
        """
        ...
