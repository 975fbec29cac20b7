"""`blame`: compare a file with PyTorch layer by layer."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from cloformer_deploy.backends.base import INPUT_NAME, Feed, Tensors
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.blame.alignment import Match, align
from cloformer_deploy.blame.layers import group
from cloformer_deploy.blame.node_errors import Walk, batches, float_values
from cloformer_deploy.blame.ranking import CANDIDATES, Layer, OutputNoise, faulty_nodes, layers, ranked
from cloformer_deploy.blame.reexport import Reexported, file_differences, reexport
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import BundleError
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.validation.inference import artifact_outputs, reference_outputs

LAYER_IMAGES = 8
"""Images on which layers are ranked, evenly over all: each takes a run of both files, and of the model per layer."""


@dataclass(frozen=True)
class Distance:
    """Distance of a file from PyTorch on the images; `sqnr_db` is None where no image gave finite outputs."""

    agreement: float
    sqnr_db: float | None
    non_finite: int


@dataclass(frozen=True)
class Blame:
    """The result of comparing a file with PyTorch layer by layer.

    Attributes:
        path: the artifact's.
        format, precision, target: its kind.
        runtime: what ran it.
        n: number of images; layers are ranked on `LAYER_IMAGES` of them.
        file: distance of the file from PyTorch.
        reexported: distance of a re-export of the same weights.
        tensors: number of the model's tensors that were found in the file.
        layers: the worst first.
        tensor_sqnr_db: SQNR (dB) of the operator behind each of these tensors by itself, by its name in the file.
        findings: other differences from the re-export, in sentences.
    """

    path: str
    format: str
    precision: str
    target: str
    runtime: str
    n: int
    file: Distance
    reexported: Distance
    tensors: int
    layers: tuple[Layer, ...]
    tensor_sqnr_db: Mapping[str, float]
    findings: tuple[str, ...]

    @property
    def faults(self) -> tuple[Layer, ...]:
        """The layers that compute something else than in a re-export."""
        return tuple(layer for layer in self.layers if layer.fault or layer.non_finite)


def blame(
    bundle: Bundle,
    artifact: Artifact,
    pixels: NDArray[np.uint8],
    progress: Progress,
    *,
    reexported: Reexported | None = None,
    calibration: Path | None = None,
) -> Blame:
    """Rank the layers of an artifact by the error that each adds.

    Args:
        bundle: that holds it; its weights are the reference.
        artifact: its manifest entry; a file that was changed since is a finding.
        pixels: images at the input's size, RGB uint8 (n, 3, H, W).
        progress: receives each step.
        reexported: a re-export of this artifact, or of another of the same weights and options; None makes it.
        calibration: see `reexport`.

    Raises:
        BundleError: the file is missing or damaged, or of another model.
        RequestError, MissingPartError, ToolError: see `reexport`; a runtime failed.
    """
    if reexported is None:
        with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
            made = reexport(bundle, artifact, Path(folder), calibration, progress)
            return blame(bundle, artifact, pixels, progress, reexported=made)
    path = bundle.path(artifact)
    if not path.exists():
        raise BundleError(f"{path} is listed in the manifest but missing", "export it again")
    findings = [*reexported.findings, *file_differences(path, reexported.path, artifact.format)]
    if digest(path) != artifact.sha256:
        findings.insert(0, "it is not the file that was exported: its sha256 differs from the manifest's")
    both = _Both(path, reexported, _spread(pixels, LAYER_IMAGES), progress)
    progress.step("Comparing tensors")
    both.walk()
    findings += both.findings()
    faults = faulty_nodes(reexported.traced, both.suspect.errors, both.reexported_errors.errors)
    modules = frozenset(name for name, _ in reexported.reference.named_modules())
    groups = group(reexported.network, reexported.traced, both.matches, modules)
    found = layers(groups, both.suspect.errors, both.reexported_errors.errors, faults)
    noise = OutputNoise(reexported.traced, found, reexported.task.outputs)
    progress.step("Measuring the effect of each layer's error on the outputs")
    both.inject(noise)
    progress.step("Comparing outputs")
    return Blame(
        path=artifact.path,
        format=artifact.format,
        precision=artifact.precision,
        target=artifact.target,
        runtime=runtime_for(artifact.format).name,
        n=len(pixels),
        file=distance(path, reexported, pixels),
        reexported=distance(reexported.path, reexported, pixels),
        tensors=len(both.suspect.errors),
        layers=ranked(found, noise),
        tensor_sqnr_db={both.matches[name].tensor: error.sqnr_db for name, error in both.suspect.errors.items()},
        findings=tuple(findings),
    )


def distance(path: Path, reexported: Reexported, pixels: NDArray[np.uint8]) -> Distance:
    """Return how far a file is from PyTorch when it is run by its runtime.

    Args:
        path: the file.
        reexported: a re-export of the same weights and options.
        pixels: images at the input's size, RGB uint8 (n, 3, H, W).
    """
    job, task = reexported.job, reexported.task
    preprocessing = job.source.preprocessing
    session = runtime_for(job.format).open(path)
    expected = reference_outputs(reexported.reference, preprocessing.normalize(pixels), task.outputs)
    found = artifact_outputs(session, pixels, preprocessing, job.input_kind, expected)
    figures = summarize(image_distances(expected, found, task.outputs))
    before, after = task.evidence(expected, expected), task.evidence(found, expected)
    return Distance(task.compare(before, after, None).agreement, figures.sqnr_db, figures.non_finite)


class _Both:
    """A file and a re-export that are compared node by node with the same model on the same images."""

    def __init__(self, path: Path, reexported: Reexported, pixels: NDArray[np.uint8], progress: Progress) -> None:
        self._path, self._reexported, self._progress = path, reexported, progress
        self._pixels = torch.from_numpy(pixels)
        job = reexported.job
        backend = BACKENDS[job.format]
        self._reader, self._reexported_reader = (backend.open_tensors(item) for item in (path, reexported.path))
        if self._reader.batch != self._reexported_reader.batch:
            raise BundleError(f"{path} is for batches of {self._reader.batch}, not what its manifest says", "export it")
        self.matches: Mapping[str, Match] = {}
        self.suspect = self.reexported_errors = Walk(reexported.traced, {})
        self._missing: list[str] = []

    def walk(self) -> None:
        """Match tensors to nodes, and measure the error that each node adds in either file."""
        for done, (floats, feed) in enumerate(self._batches()):
            expected, tensors = self._reexported_reader.run(feed), self._reader.run(feed)
            if done == 0:
                self._identify(_image(floats), expected, tensors)
            self.reexported_errors.step(floats, expected)
            self.suspect.step(floats, tensors)
            self._progress.advance(min((done + 1) * len(feed[INPUT_NAME]), len(self._pixels)), len(self._pixels))

    def _identify(self, images: torch.Tensor, expected: Tensors, tensors: Tensors) -> None:
        found = align(self._reexported.traced, images, expected, self._reexported.rounded)
        if self._reexported.job.input_kind == "tensor":  # the input is the model's own: it has no error
            inputs = {node.name for node in self._reexported.traced.graph.nodes if node.op == "placeholder"}
            found = {name: match for name, match in found.items() if name not in inputs}
        self._missing = [match.tensor for match in found.values() if match.tensor not in tensors]
        self.matches = found
        self.suspect, self.reexported_errors = (Walk(self._reexported.traced, found) for _ in range(2))
        if 2 * len(self._missing) > len(found):  # input and output have the same names in every file
            raise BundleError(
                f"{self._path} lacks {len(self._missing)} of {len(found)} tensors of a re-export: it is of another "
                "model or version",
                "export it again",
            )

    def findings(self) -> Iterator[str]:
        """Yield what the graph lacks compared with the re-export."""
        if self._missing:
            yield (
                f"{len(self._missing)} of {len(self.matches)} tensors of a re-export are not in it, such as "
                f"{self._missing[0]}: what they would show is counted to the layer behind"
            )

    def inject(self, noise: OutputNoise) -> None:
        """Add the error of each layer alone to the float model."""
        again = Walk(self._reexported.traced, self.matches)
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

    def _batches(self) -> Iterator[tuple[dict[fx.Node, Any], Feed]]:
        """Yield what the float model computes, and the images as the files take them."""
        job = self._reexported.job
        for part in batches(self._pixels, self._size):
            pixels = part.numpy()
            images = job.source.preprocessing.normalize(pixels)
            yield float_values(self._reexported.traced, torch.from_numpy(images)), _feed(pixels, images, job.input_kind)


def _spread(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return at most so many images, evenly over all."""
    if len(pixels) <= count:
        return pixels
    return pixels[[index * len(pixels) // count for index in range(count)]]


def _feed(pixels: NDArray[np.uint8], images: NDArray[np.float32], kind: str) -> Feed:
    return {INPUT_NAME: pixels if kind == "image" else images}


def _image(floats: Mapping[fx.Node, Any]) -> torch.Tensor:
    (image,) = (value for node, value in floats.items() if node.op == "placeholder")
    return torch.as_tensor(image)
