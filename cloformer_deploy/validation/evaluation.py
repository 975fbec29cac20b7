"""PyTorch and every artifact of a bundle on the same images, batch by batch; what a cache knows is not run again."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import Session
from cloformer_deploy.backends.registry import FLOATS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.cached_inference import Subject, results
from cloformer_deploy.validation.logits import artifact_logits, reference_logits, weight_failures

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer import CloFormer

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """Some images: their places, labels (B,) or None, PyTorch's logits (B, classes) and those of each artifact.

    The artifacts are in the evaluation's order; None where one cannot be executed here.
    """

    places: range
    labels: NDArray[np.int64] | None
    expected: Logits
    found: tuple[Logits | None, ...]


class Candidate:
    """An artifact, and what it takes to run it; it is loaded when it is first needed.

    Attributes:
        artifact: as the manifest lists it.
        runtime: the name of what executes it here.
        lack: what keeps it from being executed, or None.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact) -> None:
        self._bundle, self.artifact = bundle, artifact
        self._runtime = runtime_for(artifact.format)
        self.runtime = self._runtime.name
        self.lack: MissingPartError | None = self._runtime.missing()

    @cached_property
    def session(self) -> Session:
        """The loaded file."""
        return self._runtime.open(self._bundle.path(self.artifact))

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """Logits (B, classes) of images (B, 3, H, W), RGB uint8.

        Raises:
            ToolError: the runtime failed.
        """
        manifest, kind = self._bundle.manifest, self.artifact.input.kind
        try:
            return artifact_logits(self.session, pixels, manifest.input, kind, manifest.num_classes)
        except ToolError as error:
            raise ToolError(f"{self.artifact.path}: {error.message}", error.hint) from error

    @property
    def key(self) -> bytes:
        """What its logits depend on, beside the image."""
        return key("logits", self.artifact.sha256, self.runtime, self._runtime.version(), platform.machine())


class Evaluation:
    """A bundle over images.

    Args:
        bundle: verified.
        images: to be run.
        cache: where logits are looked up and kept; None computes all of them.

    Raises:
        BundleError: the weights are not what the manifest says (when they are first needed).
    """

    def __init__(self, bundle: Bundle, images: Dataset, cache: Cache | None = None) -> None:
        self.bundle, self.images, self._cache = bundle, images, cache
        self.candidates = [Candidate(bundle, artifact) for artifact in bundle.manifest.artifacts]

    @cached_property
    def model(self) -> "CloFormer":
        """The reference."""
        return reference_model(self.bundle)

    def reference(self, pixels: NDArray[np.uint8]) -> Logits:
        """PyTorch's logits (B, classes) of images (B, 3, H, W), RGB uint8."""
        return reference_logits(self.model, pixels, self.bundle.manifest.input)

    def weight_failures(self, candidate: Candidate) -> list[str]:
        """How the weights inside an artifact differ from those it was made of, as far as that can be told."""
        artifact = candidate.artifact
        # Those in a file with integers may have been equalized, on a calibration set: only its export knows them.
        if candidate.lack is not None or artifact.format != "coreml" or artifact.precision not in FLOATS:
            return []

        def compute() -> bytes:
            from cloformer_deploy.lowering import lower

            lowered = lower(self.model, artifact.format, artifact.target)
            return json.dumps(weight_failures(self.bundle.path(artifact), artifact.format, lowered)).encode()

        sha256 = self.bundle.manifest.weights.file_sha256
        found: list[str] = json.loads(self.remembered(("weights", sha256, artifact.sha256), compute))
        return found

    def remembered(self, parts: Sequence[str], compute: Callable[[], bytes]) -> bytes:
        """A result of this version's code that depends on nothing but the parts, looked up or computed."""
        if self._cache is None:
            return compute()
        name = key(__version__, *parts)
        found = self._cache.get([name])
        if name not in found:
            found = {name: compute()}
            self._cache.put(found)
        return found[name]

    def batches(self, progress: Progress) -> Iterator[Compared]:
        """All images in order.

        Raises:
            DataError: a image cannot be used.
            ToolError: a runtime failed.
        """
        manifest, labels = self.bundle.manifest, self.images.labels
        executed = [item for item in self.candidates if item.lack is None]
        subjects = [Subject(self._reference_key, _rows(self.reference))]
        subjects += [Subject(item.key, _rows(item.logits)) for item in executed]
        for place, (expected, *found) in results(self.images, manifest.input, subjects, self._cache):
            rows = iter(found)
            yield Compared(
                place,
                None if labels is None else np.asarray(labels[place.start : place.stop], np.int64),
                _logits(expected),
                tuple(_logits(next(rows)) if item.lack is None else None for item in self.candidates),
            )
            progress.advance(place.stop, len(self.images))

    @property
    def _reference_key(self) -> bytes:
        return key("logits", self.bundle.manifest.weights.file_sha256, version("torch"), platform.machine())


def _rows(run: Callable[[NDArray[np.uint8]], Logits]) -> Callable[[NDArray[np.uint8]], list[bytes]]:
    return lambda pixels: [row.tobytes() for row in run(pixels)]


def _logits(rows: Sequence[bytes]) -> Logits:
    return np.stack([np.frombuffer(row, np.float32) for row in rows])


def reference_model(bundle: Bundle) -> "CloFormer":
    """The model of a bundle's weights, in evaluation mode.

    Raises:
        BundleError: the manifest is of other weights.
        CheckpointError: they cannot be used.
    """
    from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

    manifest, checkpoint = bundle.manifest, load_checkpoint(bundle.weights_path)
    said = (manifest.variant, manifest.num_classes)
    if said != (checkpoint.variant, checkpoint.num_classes):
        raise BundleError(
            f"{bundle.root}'s manifest says {said[0]} with {said[1]} classes, "
            f"its weights are {checkpoint.variant} with {checkpoint.num_classes}",
            "export again with --overwrite",
        )
    return build_model(checkpoint)
