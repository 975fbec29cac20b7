"""Run PyTorch and every artifact of a bundle on the same images; results that a cache has are not computed again.

Of each image and artifact only compact evidence is kept (`Task.evidence`) and a few sums of distances, not outputs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import BACKENDS, lower_for, runtime_for
from cloformer_deploy.backends.target import FLOATS
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import Dataset
from cloformer_deploy.errors import MissingPartError, RequestError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.npu import Npu, no_artifact
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.text import counted
from cloformer_deploy.tasks import Comparison, Outputs, Task, task_of
from cloformer_deploy.tasks.distances import distance_bytes, summarize
from cloformer_deploy.validation.bundle_work import BundleWork, Candidate
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.cached_inference import results
from cloformer_deploy.validation.inference import reference_outputs, threads_restored
from cloformer_deploy.validation.workers.base import Workers

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Evaluated:
    """The result of one artifact.

    Attributes:
        candidate: the artifact.
        comparison: None where it was not executed.
        evidence: of each image, in order.
        weight_failures: how the weights inside the file differ from those it was made of.
    """

    candidate: Candidate
    comparison: Comparison | None
    evidence: tuple[bytes, ...]
    weight_failures: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """The results of a bundle.

    Attributes:
        reference: PyTorch compared with itself: its score.
        evidence: PyTorch's, of each image, in order.
        artifacts: in the manifest's order.
    """

    reference: Comparison
    evidence: tuple[bytes, ...]
    artifacts: tuple[Evaluated, ...]

    @property
    def missing(self) -> tuple[MissingPartError, ...]:
        """Parts that kept artifacts from being executed."""
        lacks = {item.candidate.runtime: item.candidate.lack for item in self.artifacts}
        return tuple(lack for lack in lacks.values() if lack is not None)


class Evaluation:
    """A bundle and the images that it is judged on.

    Args:
        bundle: verified.
        images: to be run.
        cache: where results are looked up and kept; None computes all of them.
        npu: run the artifacts for it in its simulator, and no others; None runs all on their formats' runtimes.
        workers: run the images; None does it in this process.

    Raises:
        RequestError: the NPU has no simulator, or the bundle no artifact for it.
        CheckpointError: the weights are not what the manifest says (when they are first needed).
    """

    def __init__(
        self,
        bundle: Bundle,
        images: Dataset,
        cache: Cache | None = None,
        npu: Npu | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.bundle, self.images, self._cache, self._workers = bundle, images, cache, workers
        self.candidates = _candidates(bundle, npu)
        executed = [item for item in self.candidates if item.lack is None]
        self._work = BundleWork(bundle, images, executed)
        self.task: Task = task_of(bundle.manifest)
        self._distance_bytes = distance_bytes(self.task.outputs)

    @property
    def model(self) -> "nn.Module":
        """PyTorch's model, in evaluation mode; it is built on first use."""
        return self._work.model

    def reference(self, images: NDArray[np.float32]) -> Outputs:
        """Return PyTorch's outputs for normalized images (B, 3, H, W)."""
        return reference_outputs(self.model, images, self.task.outputs)

    def mistaken(self) -> Iterator[tuple[str, Callable[[NDArray[np.float32]], Outputs]]]:
        """Yield PyTorch with mistakes that converters make, like `reference`, each with the mistake in words."""
        for what, model in NETWORKS[self.bundle.manifest.network].mistakes(self.model):
            yield what, partial(reference_outputs, model, specs=self.task.outputs)

    def run(self, progress: Progress) -> Results:
        """Run all images.

        Raises:
            DataError: an image cannot be used.
            MissingPartError: a worker has another environment than this process.
            ToolError: a runtime failed, or the workers did.
        """
        progress.step("Loading the artifacts")
        failures = [tuple(self._weight_failures(item)) for item in self.candidates]
        progress.step(f"Comparing {counted(len(self._work.keys) - 1, 'artifact')} with PyTorch")
        found = self._found(progress)
        labels = self.images.labels
        evidence = [item[self._distance_bytes :] for item in found[0]]
        lots = iter(found[1:])
        artifacts = [
            self._evaluated(item, evidence, next(lots) if item.lack is None else None, failed)
            for item, failed in zip(self.candidates, failures, strict=True)
        ]
        reference = self._compared(evidence, found[0], labels)
        return Results(reference, tuple(evidence), tuple(artifacts))

    def _found(self, progress: Progress) -> list[list[bytes]]:
        """Return distances and evidence of each image: PyTorch's, then those of each executed artifact."""
        found: list[list[bytes]] = [[] for _ in self._work.keys]
        with threads_restored():
            for place, lots in results(self._work, self._cache, self._workers):
                for kept, new in zip(found, lots, strict=True):
                    kept += new
                progress.advance(place.stop, len(self.images))
        return found

    def _evaluated(
        self, candidate: Candidate, expected: Sequence[bytes], packed: Sequence[bytes] | None, failures: tuple[str, ...]
    ) -> Evaluated:
        if packed is None:
            return Evaluated(candidate, None, (), failures)
        compared = self._compared(expected, packed, self.images.labels)
        return Evaluated(candidate, compared, tuple(item[self._distance_bytes :] for item in packed), failures)

    def _compared(
        self, expected: Sequence[bytes], packed: Sequence[bytes], targets: Sequence[int] | None
    ) -> Comparison:
        figures = summarize([item[: self._distance_bytes] for item in packed])
        found = self.task.compare(expected, [item[self._distance_bytes :] for item in packed], targets)
        return replace(found, **asdict(figures))

    def _weight_failures(self, candidate: Candidate) -> list[str]:
        artifact = candidate.artifact
        # Weights in a quantized file may have been equalized on a calibration set: only its export knows them.
        if candidate.lack is not None or artifact.precision not in FLOATS:
            return []

        def compute() -> bytes:
            lowered = lower_for(self.model, artifact.tuned_target)
            found = BACKENDS[artifact.format].weight_differences(self.bundle.path(artifact), lowered)
            return json.dumps(found).encode()

        sha256 = self.bundle.manifest.weights.file_sha256
        found: list[str] = json.loads(self.remembered(("weights", sha256, artifact.sha256), compute))
        return found

    def remembered(self, parts: Sequence[str], compute: Callable[[], bytes]) -> bytes:
        """Return a result that depends on this version's code and on `parts` alone, looked up or computed."""
        if self._cache is None:
            return compute()
        name = key(__version__, *parts)
        found = self._cache.get([name])
        if name not in found:
            found = {name: compute()}
            self._cache.put(found)
        return found[name]


def _candidates(bundle: Bundle, npu: Npu | None) -> list[Candidate]:
    artifacts = bundle.manifest.artifacts
    if npu is None:
        return [Candidate(bundle, item, runtime_for(item.format)) for item in artifacts]
    if npu.simulator is None:
        hint = f"ask its compiler: cloformer-deploy bench --device {npu.name}"
        raise RequestError(f"nothing here simulates {npu.title}", hint)
    found = [Candidate(bundle, item, npu.simulator) for item in artifacts if npu.takes(item.key)]
    if not found:
        raise no_artifact(npu, bundle.root)
    return found
