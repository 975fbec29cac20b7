"""The work of an accuracy search: what PyTorch, or a file that is in no bundle yet, makes of each labeled image."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.base import Session
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bundle import ListedFiles
from cloformer_deploy.data import Dataset
from cloformer_deploy.exporting.jobs import Job
from cloformer_deploy.system.files import naming
from cloformer_deploy.tasks import Outputs, task_of
from cloformer_deploy.validation import artifact_outputs, reference_outputs
from cloformer_deploy.validation.cache import key
from cloformer_deploy.validation.inference import use_one_thread
from cloformer_deploy.validation.workers.base import Lot, Pixels
from cloformer_deploy.validation.workers.environment import of_pytorch

if TYPE_CHECKING:
    from torch import nn


class _Trial(ABC):
    """See `Work`: it has one subject, whose results are `Task.evidence`.

    Args:
        job: the conversion that is searched for.
        images: the data set.
        files: the one file that is read.
    """

    keys: Sequence[bytes] = (key("trial"),)

    def __init__(self, job: Job, images: Dataset, files: ListedFiles) -> None:
        for module in job.modules:  # in a worker of another machine nothing is registered yet
            importlib.import_module(module)
        self._job, self.images = job, images
        self.files: ListedFiles | None = files
        self._files = files
        self.preprocessing = job.source.preprocessing
        self._task = task_of(job.source)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._job, self.images, self._files)

    def at(self, root: Path) -> "_Trial":
        """See `Work.at`."""
        return type(self)(self._job, self.images, replace(self._files, root=root))

    @property
    def path(self) -> Path:
        """Path of the file."""
        (name,) = self._files.digests
        return self._files.root / name

    def environment(self) -> Mapping[str, str]:
        """See `Work.environment`."""
        return of_pytorch()

    @abstractmethod
    def open(self, subjects: Sequence[int]) -> None:
        """See `Work.open`."""

    @abstractmethod
    def outputs(self, pixels: Pixels) -> Outputs:
        """Return the outputs for images (B, 3, H, W), RGB uint8."""

    def prepare(self, pixels: Pixels) -> Outputs:
        """See `Work.prepare`: nothing is needed."""
        return {}

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        """See `Work.run`."""
        found = self.outputs(lot.pixels)
        return self._task.evidence(found, found, lot.truths)


class ReferenceTrial(_Trial):
    """PyTorch; the file is the copy of the weights that the export made."""

    @cached_property
    def _model(self) -> "nn.Module":
        from cloformer_deploy.weights.checkpoints import build_from_copy

        return build_from_copy(self.path, self._job.source.network, self._job.source.architecture)

    def open(self, subjects: Sequence[int]) -> None:
        """See `Work.open`."""
        self._model  # noqa: B018 - is loaded on first use

    def outputs(self, pixels: Pixels) -> Outputs:
        """See `_Trial.outputs`."""
        use_one_thread()
        return reference_outputs(self._model, self.preprocessing.normalize(pixels), self._task.outputs)


class FileTrial(_Trial):
    """A file of the job's format."""

    @cached_property
    def _session(self) -> Session:
        return runtime_for(self._job.format).open(self.path)

    def environment(self) -> Mapping[str, str]:
        """See `Work.environment`."""
        runtime = runtime_for(self._job.format)
        return {**of_pytorch(), runtime.title: runtime.version()}

    def open(self, subjects: Sequence[int]) -> None:
        """See `Work.open`."""
        self._session  # noqa: B018 - is loaded on first use

    def outputs(self, pixels: Pixels) -> Outputs:
        """See `_Trial.outputs`."""
        with naming(self.path.name):
            return artifact_outputs(self._session, pixels, self.preprocessing, self._job.input_kind)
