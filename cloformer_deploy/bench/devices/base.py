"""The Protocol that every device follows, and the records that devices exchange with `bench`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.protocol import Figures
from cloformer_deploy.bench.protocol import Protocol as Measuring
from cloformer_deploy.bench.results import Conditions, Source
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.progress import Progress


@dataclass(frozen=True)
class Options:
    """Settings of how devices are reached; each device uses those that concern it.

    Attributes:
        python: Python on the device that runs the runner.
        adb: the adb program; None looks on PATH, then in the package adbutils.
        benchmark_binary: TFLite's benchmark_model for the device, for devices without Python.
        download: allow downloading benchmark_model.
    """

    python: str = "python3"
    adb: Path | None = None
    benchmark_binary: Path | None = None
    download: bool = False


@dataclass(frozen=True, eq=False)
class Load:
    """One artifact to measure, with its input.

    Attributes:
        artifact: its manifest entry.
        path: of the file, or of a folder such as an .mlpackage; its checksum was verified.
        feed: input arrays by name, batch included, in the network's layout (NCHW), of the dtypes that the file takes.
        baseline: True for a file of the accepted build, measured beside the file of its kind in the current build.
    """

    artifact: Artifact
    path: Path
    feed: Mapping[str, NDArray[Any]]
    baseline: bool = False

    def check_alone(self) -> None:
        """Check, before the file is opened or sent, that its runtime will read no other file.

        Raises:
            BundleError: it would.
            ToolError: the file cannot be read.
        """
        check = BACKENDS[self.artifact.format].opener.check
        if check is not None:
            check(self.path)

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """The input arrays in the file's own layout."""
        if BACKENDS[self.artifact.format].input_layout == "NCHW":
            return self.feed
        return {
            name: np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values
            for name, values in self.feed.items()
        }

    def channels_first(self, outputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return output arrays that are in the file's own layout in the network's layout."""
        if BACKENDS[self.artifact.format].input_layout == "NCHW":
            return outputs
        return {name: values.transpose(0, 3, 1, 2) if values.ndim == 4 else values for name, values in outputs.items()}


@dataclass(frozen=True)
class Request:
    """A request to a device.

    Attributes:
        loads: the artifacts; their measurements are interleaved.
        threads: of each runtime.
        cores: numbers of the cores to use; None leaves the choice to the system.
        protocol: length of the measurement.
        timeout_s: time after which whatever is not finished has failed, seconds.
    """

    loads: Sequence[Load]
    threads: int
    cores: tuple[int, ...] | None
    protocol: Measuring
    timeout_s: float


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurement of one artifact, on one compute unit where its format has several.

    Attributes that are not listed are those of `Result`.

    Attributes:
        load: what was measured.
        rounds_ms: a typical run of each round; artifacts that were measured together have the same rounds.
        outputs: float32 arrays by name that the device computed for the load's input, in the network's layout (see
            `Load.channels_first`); None where the device does not give them.
    """

    load: Load
    status: Literal["measured", "failed", "not_executed"]
    reason: str | None = None
    runtime: str | None = None
    runtime_version: str | None = None
    figures: Figures | None = None
    rounds_ms: tuple[float, ...] = ()
    init_ms: float | None = None
    first_ms: float | None = None
    peak_rss_bytes: int | None = None
    outputs: Mapping[str, NDArray[np.float32]] | None = None
    unit: str | None = None
    placement: Mapping[str, int] | None = None
    compiled_bytes: int | None = None
    assumes: str | None = None


@dataclass(frozen=True)
class Answer:
    """A device's answer: its name, its conditions, and at least one measurement per load, in the request's order."""

    machine: str | None
    source: Source
    cores: tuple[int, ...] | None
    before: Conditions | None
    after: Conditions | None
    measured: tuple[Measured, ...]


class Device(Protocol):
    """A place that measures the latency of artifacts. Heavy imports and connections wait for the call."""

    name: str
    """As it is requested: `adb:SERIAL`."""

    def measure(self, request: Request, progress: Progress) -> Answer:
        """Measure artifacts. Nothing is left on the device or running there, however the call ends.

        Raises:
            RequestError: there is no such device.
            MissingPartError: a part is missing, here or there.
            ToolError: the device or the connection failed.
        """
        ...


class Kind(NamedTuple):
    """An entry of the registry of devices.

    Attributes:
        form: how a device of the kind is requested, such as `adb[:SERIAL]`.
        title: the device in a few words.
        check: raises MissingPartError if this machine lacks a part that the kind needs.
        parse: makes a device from the text after the kind's name and colon; raises RequestError on text of another
            form. Nothing is connected to yet.
    """

    form: str
    title: str
    check: Callable[[], None]
    parse: Callable[[str, Options], Device]
