"""`bench`: measure the artifacts of a bundle on devices, one device after the other."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bench.devices.base import Answer, Device, Load, Measured, Request
from cloformer_deploy.bench.end_to_end import end_to_end
from cloformer_deploy.bench.protocol import Protocol, noisy, speedup, throttled
from cloformer_deploy.bench.results import Result, keep_results, read_results
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import BundleError, CloformerDeployError, ToolError
from cloformer_deploy.progress import Progress

START_S, OPEN_S, SLOWEST = 300.0, 60.0, 3.0
"""A device's time limit: seconds to reach it, seconds to open each file, and a multiple of the protocol's seconds."""


@dataclass(frozen=True)
class Bench:
    """The answer of `bench`.

    Attributes:
        results: in the order of devices and artifacts.
        errors: of devices that failed, with the device's name.
    """

    results: tuple[Result, ...]
    errors: tuple[tuple[str, CloformerDeployError], ...]

    @property
    def exit_code(self) -> int:
        """That of the first device that failed, or that of a failed tool if an artifact failed; else 0."""
        if self.errors:
            return self.errors[0][1].exit_code
        return ToolError.exit_code if any(item.status == "failed" for item in self.results) else 0


def bench(
    bundle: Bundle,
    devices: Sequence[Device],
    threads: int,
    cores: tuple[int, ...] | None,
    protocol: Protocol,
    timeout_s: float | None,
    progress: Progress,
    *,
    whole_path: bool = False,
) -> Bench:
    """Measure every artifact on every device, and keep the results with the bundle.

    A device that fails does not affect the results of the others.

    Args:
        bundle: the artifacts.
        devices: measured on in this order.
        threads: of each runtime.
        cores: numbers of the cores to use; None leaves the choice to the system.
        protocol: length of the measurement.
        timeout_s: time limit of each device, seconds; None sets one by the number of artifacts.
        progress: takes the steps.
        whole_path: on this machine also time the whole path from a JPEG on, and watch memory.

    Raises:
        BundleError: the bundle is not as its manifest says, lists no artifacts, or has damaged results.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    if not bundle.manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artifacts", "export into it")
    read_results(bundle)  # before minutes of work, whose results are kept beside the old ones
    loads = tuple(load(bundle, artifact) for artifact in bundle.manifest.artifacts)
    limit_s = timeout_s or START_S + len(loads) * (OPEN_S + SLOWEST * protocol.seconds)
    request = Request(loads, threads, cores, protocol, limit_s)
    results: list[Result] = []
    errors: list[tuple[str, CloformerDeployError]] = []
    for device in devices:
        progress.step(f"Measuring on {device.name}")
        try:
            answer = device.measure(request, progress)
        except CloformerDeployError as error:
            errors.append((device.name, error))
            continue
        found = list(_results(device, request, answer))
        if whole_path and answer.source == "host":
            found = list(_with_paths(bundle, request, found, progress))
        results += found
        try:
            keep_results(bundle, [item for item in found if item.status == "measured"])
        except OSError as error:
            progress.warn(f"the results are not kept in {bundle.root}: {error.strerror}")
    return Bench(tuple(results), tuple(errors))


def _with_paths(bundle: Bundle, request: Request, results: Sequence[Result], progress: Progress) -> Iterator[Result]:
    """Yield results with the times of the whole path, for files of batch 1 that were measured."""
    loads = {item.artifact.path: item for item in request.loads if len(next(iter(item.feed.values()))) == 1}
    wanted = [loads[item.path] for item in results if item.status == "measured" and item.path in loads]
    times = {item.artifact.path: found for item, found in end_to_end(bundle, wanted, request.threads, progress)}
    for item in results:
        yield item.model_copy(update={"end_to_end": times.get(item.path)})


def load(bundle: Bundle, artifact: Artifact, *, baseline: bool = False) -> Load:
    """Return an artifact of a verified bundle with its input: the first rendered test image, for a whole batch."""
    batch = 1 if artifact.input.batch == "dynamic" else artifact.input.batch
    preprocessing = bundle.manifest.preprocessing
    pixels = probe_images(1, preprocessing).repeat(batch, 0)
    fed: NDArray[Any] = pixels if artifact.input.kind == "image" else preprocessing.normalize(pixels)
    return Load(artifact, bundle.path(artifact), {INPUT_NAME: fed}, baseline)


def _results(device: Device, request: Request, answer: Answer) -> Iterator[Result]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for item in answer.measured:
        baseline = float_baseline(item, answer.measured)
        ratio, interval = speedup(item.rounds_ms, baseline.rounds_ms) if baseline is not None else (None, None)
        yield Result(
            **item.load.artifact.model_dump(include={"path", "format", "precision", "target", "sha256"}),
            device=device.name,
            machine=answer.machine,
            source=answer.source,
            threads=request.threads,
            cores=answer.cores,
            before=answer.before,
            after=answer.after,
            measured_at=now,
            status=item.status,
            unit=item.unit,
            placement=item.placement,
            compiled_bytes=item.compiled_bytes,
            assumes=item.assumes,
            reason=item.reason,
            runtime=item.runtime,
            runtime_version=item.runtime_version,
            init_ms=item.init_ms,
            first_ms=item.first_ms,
            peak_rss_bytes=item.peak_rss_bytes,
            **(asdict(item.figures) if item.figures is not None else {}),
            speedup=ratio,
            speedup_ci95=interval,
            speedup_to=None if baseline is None else baseline.load.artifact.path,
            throttled=_throttled(answer, item),
            noisy=noisy(item.rounds_ms),
            max_abs_diff=None if answer.source == "host" else _difference(item),
        )


def _throttled(answer: Answer, item: Measured) -> bool | None:
    if not item.rounds_ms:
        return None
    mhz = [None if state is None else state.frequency_mhz for state in (answer.before, answer.after)]
    return throttled(item.rounds_ms, *mhz)


def float_baseline(item: Measured, measured: Sequence[Measured]) -> Measured | None:
    """Return the float32 file that a measurement's speedup is over; None without one.

    It is of the same format and build and was measured on the same unit; one for the same target is preferred.
    """

    def kind(other: Measured) -> tuple[str, str, str | None, bool]:
        artifact = other.load.artifact
        return artifact.format, artifact.precision, other.unit, other.load.baseline

    wanted = (item.load.artifact.format, "fp32", item.unit, item.load.baseline)
    floats = [other for other in measured if kind(other) == wanted and other.rounds_ms and item.rounds_ms]
    floats.sort(key=lambda other: other.load.artifact.target != item.load.artifact.target)
    return floats[0] if floats and floats[0] is not item else None


def _difference(item: Measured) -> float | None:
    """Return the largest difference of a device's outputs from this machine's; None where they cannot be compared.

    That is where the device gives no outputs, no runtime here runs the file, or an output is missing or of another
    shape.
    """
    runtime = runtime_for(item.load.artifact.format)
    if item.outputs is None or runtime.missing() is not None:
        return None
    here = runtime.open(item.load.path).run(item.load.feed)
    return largest_difference(here, item.outputs)


def largest_difference(here: Mapping[str, NDArray[Any]], there: Mapping[str, NDArray[Any]]) -> float | None:
    """Return the largest absolute difference over all outputs; None if names or shapes differ."""
    if {name: values.shape for name, values in here.items()} != {name: values.shape for name, values in there.items()}:
        return None
    return max((float(np.abs(here[name] - there[name]).max()) for name in here), default=None)
