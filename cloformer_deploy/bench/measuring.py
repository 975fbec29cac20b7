"""`bench`: the artifacts of a bundle on devices, one device after the other."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bench.devices.base import Answer, Device, Load, Measured, Request
from cloformer_deploy.bench.protocol import Protocol, noisy, speedup, throttled
from cloformer_deploy.bench.results import Result, keep_results, read_results
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import RenderedImages
from cloformer_deploy.errors import BundleError, CloformerDeployError, ToolError
from cloformer_deploy.progress import Progress

IMAGE = 0
"""Of the rendered test split: what all files are given. Integers and floats take as long for any."""
START_S, OPEN_S, SLOWEST = 300.0, 60.0, 3.0
"""A device's time-out: seconds to get there, seconds to open each file, and so many times the protocol's seconds."""


@dataclass(frozen=True)
class Bench:
    """What was measured, in the order of devices and artifacts, and what kept a device from it, by its name."""

    results: tuple[Result, ...]
    errors: tuple[tuple[str, CloformerDeployError], ...]

    @property
    def exit_code(self) -> int:
        """Of the first device that failed, or of a tool if an artifact did; 0 if all went well."""
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
) -> Bench:
    """Time every artifact on every device, and keep what was found with the bundle.

    A device that fails keeps none of the others from its results. It has `timeout_s`, or a time for each artifact.

    Raises:
        BundleError: the bundle is not as its manifest says, lists no artifacts, or has damaged results.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    if not bundle.manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artifacts", "export into it")
    read_results(bundle)  # before minutes of work: new ones are to be kept beside them
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
        results += found
        try:
            keep_results(bundle, [item for item in found if item.status == "measured"])
        except OSError as error:
            progress.warn(f"the results are not kept in {bundle.root}: {error.strerror}")
    return Bench(tuple(results), tuple(errors))


def load(bundle: Bundle, artifact: Artifact) -> Load:
    """An artifact of a bundle that was verified, with what it is given."""
    manifest = bundle.manifest
    batch = 1 if artifact.input.batch == "dynamic" else artifact.input.batch
    image = RenderedImages("test", [IMAGE]).image(IMAGE, manifest.input)
    pixels = image[None].repeat(batch, 0)
    fed: NDArray[Any] = pixels if artifact.input.kind == "image" else manifest.input.normalize(pixels)
    if artifact.format == "tflite":
        fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
    return Load(artifact, bundle.path(artifact), fed)


def _results(device: Device, request: Request, answer: Answer) -> Iterator[Result]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    loads = {item.artifact.path: item for item in request.loads}
    for item in answer.measured:
        artifact = item.artifact
        baseline = float_baseline(item, answer.measured)
        ratio, interval = speedup(item.rounds_ms, baseline.rounds_ms) if baseline is not None else (None, None)
        yield Result(
            **artifact.model_dump(include={"path", "format", "precision", "target", "sha256"}),
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
            reason=item.reason,
            runtime=item.runtime,
            runtime_version=item.runtime_version,
            init_ms=item.init_ms,
            first_ms=item.first_ms,
            peak_rss_bytes=item.peak_rss_bytes,
            **(asdict(item.figures) if item.figures is not None else {}),
            ratio=ratio,
            ratio_ci95=interval,
            ratio_to=None if baseline is None else baseline.artifact.path,
            throttled=_throttled(answer, item),
            noisy=noisy(item.rounds_ms),
            max_abs_diff=None if device.name == "host" else _difference(loads[artifact.path], item),
        )


def _throttled(answer: Answer, item: Measured) -> bool | None:
    if not item.rounds_ms:
        return None
    mhz = [None if state is None else state.frequency_mhz for state in (answer.before, answer.after)]
    return throttled(item.rounds_ms, *mhz)


def float_baseline(item: Measured, measured: Sequence[Measured]) -> Measured | None:
    """The float32 file of an artifact's format, on the same unit, for its own target if there is one."""
    kind = (item.artifact.format, "fp32", item.unit)
    floats = [other for other in measured if (other.artifact.format, other.artifact.precision, other.unit) == kind]
    floats = [other for other in floats if other.rounds_ms and item.rounds_ms]
    floats.sort(key=lambda other: other.artifact.target != item.artifact.target)
    return floats[0] if floats and floats[0] is not item else None


def _difference(asked: Load, item: Measured) -> float | None:
    """How far a device's logits are from this machine's, where it can run the file itself."""
    runtime = runtime_for(asked.artifact.format)
    if item.logits is None or runtime.missing() is not None:
        return None
    images = asked.image.transpose(0, 3, 1, 2) if asked.artifact.format == "tflite" else asked.image
    here = runtime.open(asked.path).run(images)
    there = np.asarray(item.logits, np.float32)
    return float(np.abs(here.ravel() - there).max()) if here.size == there.size else None
