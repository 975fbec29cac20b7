"""The work of comparing a bundle's artifacts with PyTorch, image by image: distances and evidence of each output."""

import platform
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import Runtime, Session
from cloformer_deploy.bundle import Bundle, ListedFiles
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.system.files import naming
from cloformer_deploy.tasks import Outputs, Task, task_of
from cloformer_deploy.tasks.distances import image_distances
from cloformer_deploy.validation.cache import key
from cloformer_deploy.validation.inference import artifact_outputs, reference_outputs, use_one_thread
from cloformer_deploy.validation.workers.base import Lot, Pixels
from cloformer_deploy.validation.workers.environment import of_pytorch

if TYPE_CHECKING:
    from torch import nn


class Candidate:
    """An artifact with its runtime; it is loaded when it is first needed. A pickled one is not loaded.

    Attributes:
        artifact: its manifest entry.
        runtime: name of what executes it here.
        lack: what keeps it from being executed, or None.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, runtime: Runtime) -> None:
        self._bundle, self.artifact = bundle, artifact
        self._runtime = runtime
        self.runtime = self._runtime.name
        self.lack: MissingPartError | None = self._runtime.missing()

    def __reduce__(self) -> tuple[object, ...]:
        return Candidate, (self._bundle, self.artifact, self._runtime)

    def of(self, bundle: Bundle) -> "Candidate":
        """Return the same artifact of another copy of the bundle."""
        return Candidate(bundle, self.artifact, self._runtime)

    @cached_property
    def session(self) -> Session:
        """The loaded file; it is loaded on first use."""
        return self._runtime.open(self._bundle.path(self.artifact))

    def outputs(self, pixels: NDArray[np.uint8], expected: Outputs) -> Outputs:
        """Return its outputs for images (B, 3, H, W), RGB uint8, whose shapes must be those of `expected`.

        Raises:
            ToolError: the runtime failed, or an output has another shape.
        """
        with naming(self.artifact.path):
            preprocessing = self._bundle.manifest.preprocessing
            return artifact_outputs(self.session, pixels, preprocessing, self.artifact.input.kind, expected)

    @property
    def key(self) -> bytes:
        """Key of everything that its outputs depend on beside the image."""
        return key("outputs", self.artifact.sha256, self.runtime, self._runtime.version(), platform.machine())

    def version(self) -> tuple[str, str]:
        """Return the name of its runtime and the version.

        Raises:
            MissingPartError: the runtime is not installed.
        """
        if self.lack is not None:
            raise self.lack
        return self._runtime.title, self._runtime.version()


class BundleWork:
    """See `Work`: the first subject is PyTorch, the others are artifacts.

    Args:
        bundle: verified.
        images: the data set.
        candidates: the artifacts, which can be executed.
    """

    def __init__(self, bundle: Bundle, images: Dataset, candidates: Sequence[Candidate]) -> None:
        self.files: ListedFiles | None = bundle.listed
        self._bundle, self.images, self._candidates = bundle, images, candidates
        self.preprocessing = bundle.manifest.preprocessing
        self._task: Task = task_of(bundle.manifest)

    def __reduce__(self) -> tuple[object, ...]:
        return BundleWork, (self._bundle, self.images, self._candidates)

    def at(self, root: Path) -> "BundleWork":
        """See `Work.at`."""
        bundle = Bundle(root, self._bundle.manifest)
        return BundleWork(bundle, self.images, [item.of(bundle) for item in self._candidates])

    @cached_property
    def model(self) -> "nn.Module":
        """PyTorch's model, in evaluation mode; it is built on first use."""
        return reference_model(self._bundle)

    @cached_property
    def keys(self) -> Sequence[bytes]:
        """See `Work`."""
        manifest = self._bundle.manifest
        parts = (manifest.task, manifest.scores, manifest.weights.file_sha256, __version__, version("torch"))
        reference = key("reference", *parts, platform.machine())
        return [key(reference), *(key(reference, item.key) for item in self._candidates)]

    def environment(self) -> Mapping[str, str]:
        """See `Work.environment`."""
        return {**of_pytorch(), **dict(item.version() for item in self._candidates)}

    def open(self, subjects: Sequence[int]) -> None:
        """See `Work.open`."""
        self.model  # noqa: B018 - is loaded on first use, as are the artifacts
        for subject in subjects:
            if subject > 0:
                self._candidates[subject - 1].session  # noqa: B018

    def prepare(self, pixels: Pixels) -> Outputs:
        """See `Work.prepare`: PyTorch's outputs."""
        use_one_thread()
        return reference_outputs(self.model, self.preprocessing.normalize(pixels), self._task.outputs)

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        """See `Work.run`: distances of each image (`tasks.distances`) and then evidence."""
        use_one_thread()
        found = lot.prepared
        if subject > 0:
            found = self._candidates[subject - 1].outputs(lot.pixels, lot.prepared)
        distances = image_distances(lot.prepared, found, self._task.outputs)
        evidence = self._task.evidence(found, lot.prepared, lot.truths)
        return [a + b for a, b in zip(distances, evidence, strict=True)]


def reference_model(bundle: Bundle) -> "nn.Module":
    """Return the model of a bundle's weights, in evaluation mode.

    Raises:
        BundleError: the weights are not those of the manifest, by their checksum.
        CheckpointError: they cannot be used, or are not of the manifest's architecture.
    """
    from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

    bundle.verify_weights()
    return build_model(load_checkpoint(bundle.weights_path, architecture=bundle.manifest.architecture))
