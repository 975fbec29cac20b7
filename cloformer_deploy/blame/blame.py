"""`blame`: a file and PyTorch side by side, layer by layer."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from cloformer_deploy.backends.base import Tensors
from cloformer_deploy.backends.registry import open_tensors, runtime_for
from cloformer_deploy.blame.alignment import Match, align
from cloformer_deploy.blame.layers import group
from cloformer_deploy.blame.node_errors import Walk, batches, float_values
from cloformer_deploy.blame.ranking import CANDIDATES, Layer, LogitNoise, faulty_nodes, layers, ranked
from cloformer_deploy.blame.reexport import Reexported, file_differences, reexport
from cloformer_deploy.bundle.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import BundleError
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.drift import Drift
from cloformer_deploy.validation.logits import artifact_logits, reference_logits

LAYER_IMAGES = 8
"""On which layers are ranked, evenly over all: each costs both files, and the model once for each layer."""


@dataclass(frozen=True)
class Distance:
    """How far a file is from PyTorch on the images; `sqnr_db` is None where no image gave finite logits."""

    top1_agreement: float
    sqnr_db: float | None
    non_finite: int


@dataclass(frozen=True)
class Blame:
    """Where a file's error enters.

    Attributes:
        path: the artifact's.
        format, precision, target: what it is.
        runtime: what ran it.
        n: images; layers are ranked on `LAYER_IMAGES` of them.
        file: how far the file is from PyTorch.
        fresh: how far one is that was made again from the same weights.
        tensors: how many of the model's tensors were found in the file.
        layers: the worst first.
        findings: what is remarkable besides.
    """

    path: str
    format: str
    precision: str
    target: str
    runtime: str
    n: int
    file: Distance
    fresh: Distance
    tensors: int
    layers: tuple[Layer, ...]
    findings: tuple[str, ...]

    @property
    def faults(self) -> tuple[Layer, ...]:
        """The layers that compute what a fresh export does not."""
        return tuple(layer for layer in self.layers if layer.fault or layer.non_finite)


def blame(
    bundle: Bundle,
    artifact: Artifact,
    pixels: NDArray[np.uint8],
    progress: Progress,
    *,
    fresh: Reexported | None = None,
    calibration: Path | None = None,
) -> Blame:
    """Rank the layers of an artifact by the error that enters in each.

    Args:
        bundle: what it is in; its weights are the reference.
        artifact: which; its file may have been changed since, which is a finding.
        pixels: images at the input's size, RGB uint8 (n, 3, H, W).
        progress: told what is going on.
        fresh: what `reexport` made for this artifact, or for another of the same weights and options; None makes it.
        calibration: see `reexport`.

    Raises:
        BundleError: the file is missing or damaged, or of another model.
        RequestError, MissingPartError, ToolError: see `reexport`; a runtime failed.
    """
    if fresh is None:
        with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
            made = reexport(bundle, artifact, Path(folder), calibration, progress)
            return blame(bundle, artifact, pixels, progress, fresh=made)
    path = bundle.path(artifact)
    if not path.exists():
        raise BundleError(f"{path} is listed in the manifest but missing", "export it again")
    findings = [*fresh.findings, *file_differences(path, fresh.path, artifact.format)]
    if digest(path) != artifact.sha256:
        findings.insert(0, "it is not the file that was exported: its sha256 differs from the manifest's")
    both = _Both(path, fresh, _spread(pixels, LAYER_IMAGES), progress)
    progress.step("Comparing tensors")
    both.walk()
    findings += both.findings()
    faults = faulty_nodes(fresh.traced, both.suspect.errors, both.reexported_errors.errors)
    modules = frozenset(name for name, _ in fresh.reference.named_modules())
    groups = group(fresh.traced, both.matches, modules)
    found = layers(groups, both.suspect.errors, both.reexported_errors.errors, faults)
    noise = LogitNoise(fresh.traced, found)
    progress.step("Finding what each layer's error does to the logits")
    both.inject(noise)
    progress.step("Comparing logits")
    return Blame(
        path=artifact.path,
        format=artifact.format,
        precision=artifact.precision,
        target=artifact.target,
        runtime=runtime_for(artifact.format).name,
        n=len(pixels),
        file=distance(path, fresh, pixels),
        fresh=distance(fresh.path, fresh, pixels),
        tensors=len(both.suspect.errors),
        layers=ranked(found, noise),
        findings=tuple(findings),
    )


def distance(path: Path, fresh: Reexported, pixels: NDArray[np.uint8]) -> Distance:
    """How far a file is from PyTorch, run as it is meant to be run; `fresh` is of the same weights and options."""
    drift, job = Drift(), fresh.job
    session = runtime_for(job.format).open(path)
    classes = fresh.reference.num_classes
    found = artifact_logits(session, pixels, job.preprocessing, job.input_kind, classes)
    drift.update(reference_logits(fresh.reference, pixels, job.preprocessing), found, None)
    return Distance(drift.top1_agreement, drift.sqnr_db if drift.measured else None, drift.non_finite)


class _Both:
    """A file and a fresh one, walked along the same model on the same images."""

    def __init__(self, path: Path, fresh: Reexported, pixels: NDArray[np.uint8], progress: Progress) -> None:
        self._path, self._fresh, self._progress = path, fresh, progress
        self._pixels = torch.from_numpy(pixels)
        job = fresh.job
        self._reader, self._fresh_reader = (open_tensors(job.format, item) for item in (path, fresh.path))
        if self._reader.batch != self._fresh_reader.batch:
            raise BundleError(f"{path} is for batches of {self._reader.batch}, not what its manifest says", "export it")
        self.matches: Mapping[str, Match] = {}
        self.suspect = self.reexported_errors = Walk(fresh.traced, {})
        self._missing: list[str] = []

    def walk(self) -> None:
        """Find which tensor is which, and the error that each node adds in either file."""
        for done, (floats, feed) in enumerate(self._batches()):
            expected, tensors = self._fresh_reader.run(feed), self._reader.run(feed)
            if done == 0:
                self._identify(_image(floats), expected, tensors)
            self.reexported_errors.step(floats, expected)
            self.suspect.step(floats, tensors)
            self._progress.advance(min((done + 1) * len(feed), len(self._pixels)), len(self._pixels))

    def _identify(self, images: torch.Tensor, expected: Tensors, tensors: Tensors) -> None:
        found = align(self._fresh.traced, images, expected, self._fresh.rounded)
        if self._fresh.job.input_kind == "tensor":  # an input that is the model's own has no error
            inputs = {node.name for node in self._fresh.traced.graph.nodes if node.op == "placeholder"}
            found = {name: match for name, match in found.items() if name not in inputs}
        self._missing = [match.tensor for match in found.values() if match.tensor not in tensors]
        self.matches = found
        self.suspect, self.reexported_errors = (Walk(self._fresh.traced, found) for _ in range(2))
        if 2 * len(self._missing) > len(found):  # input and output have the same names in every file
            raise BundleError(
                f"{self._path} lacks {len(self._missing)} of {len(found)} tensors of a fresh export: it is of another "
                "model or version",
                "export it again",
            )

    def findings(self) -> Iterator[str]:
        """What of the graph is not as in the fresh file."""
        if self._missing:
            yield (
                f"{len(self._missing)} of {len(self.matches)} tensors of a fresh export are not in it, such as "
                f"{self._missing[0]}: what they would show is counted to the layer behind"
            )

    def inject(self, noise: LogitNoise) -> None:
        """Add the error of each layer alone to the float model."""
        again = Walk(self._fresh.traced, self.matches)
        rest = -(-len(self._pixels) // self._size) - 1
        total = len(noise.paths) + rest * min(len(noise.paths), CANDIDATES)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self._progress.advance(done, total)

        for floats, feed in self._batches():
            noise.add(floats, again.step(floats, self._reader.run(feed)), advance)

    @property
    def _size(self) -> int:
        return self._reader.batch or 1

    def _batches(self) -> Iterator[tuple[dict[fx.Node, Any], NDArray[Any]]]:
        """What the float model computes, and the images as the files take them."""
        job = self._fresh.job
        for part in batches(self._pixels, self._size):
            pixels = part.numpy()
            images = job.preprocessing.normalize(pixels)
            yield float_values(self._fresh.traced, torch.from_numpy(images)), _feed(pixels, images, job.input_kind)


def _spread(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most so many images, evenly over all."""
    if len(pixels) <= count:
        return pixels
    return pixels[[index * len(pixels) // count for index in range(count)]]


def _feed(pixels: NDArray[np.uint8], images: NDArray[np.float32], kind: str) -> NDArray[Any]:
    return pixels if kind == "image" else images


def _image(floats: Mapping[fx.Node, Any]) -> torch.Tensor:
    (image,) = (value for node, value in floats.items() if node.op == "placeholder")
    return torch.as_tensor(image)
