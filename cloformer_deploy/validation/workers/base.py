"""The Protocols of work on images, and of what carries it out: this process, or the processes of a Ray cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.bundle import ListedFiles
from cloformer_deploy.data import Dataset, Preprocessing
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.inference import rows

Pixels = NDArray[np.uint8]
Found: TypeAlias = Sequence[Sequence[bytes]]
"""Results of a shard: of each subject, one for each image that it wants."""
Mapper: TypeAlias = Callable[[Callable[[int], Any], Sequence[int]], Iterator[Any]]
"""`map` itself, or that of an executor."""


@dataclass(frozen=True)
class Shard:
    """Images that are run together, which is what a worker does at a time.

    Attributes:
        indices: of the images in the work's data set.
        wanted: of each subject, places in `indices` of the images whose result it lacks.
    """

    indices: tuple[int, ...]
    wanted: tuple[tuple[int, ...], ...]

    @property
    def subjects(self) -> list[int]:
        """The subjects that lack a result."""
        return [subject for subject, wanted in enumerate(self.wanted) if wanted]


@dataclass(frozen=True)
class Lot:
    """Images whose results are computed.

    Attributes:
        pixels: (B, 3, H, W), RGB uint8.
        truths: what is right in each image, see `Batch.truths`; None without.
        prepared: what `Work.prepare` returned for the images.
    """

    pixels: Pixels
    truths: Sequence[NDArray[Any]] | None = None
    prepared: Outputs = field(default_factory=dict)

    def select(self, indices: Sequence[int]) -> "Lot":
        """Return some of the images."""
        truths = None if self.truths is None else [self.truths[index] for index in indices]
        return Lot(self.pixels[list(indices)], truths, rows(self.prepared, indices))


class Work(Protocol):
    """Computes results of images, for several subjects. It can be pickled, without what it has loaded.

    A result depends on the images of its shard, and on nothing else that differs between equal environments: not on
    the number of threads, and not on other shards.

    Attributes:
        images: the data set.
        preprocessing: the model's.
    """

    images: Dataset
    preprocessing: Preprocessing

    @property
    def keys(self) -> Sequence[bytes]:
        """The key, for each subject, of everything that its results depend on beside the image at the input's size."""
        ...

    @property
    def files(self) -> ListedFiles | None:
        """The files that are read beside the images; None if none are."""
        ...

    def at(self, root: Path) -> "Work":
        """Return the same work with the files in another folder."""
        ...

    def environment(self) -> Mapping[str, str]:
        """Return what results depend on in this process's environment: versions by the names of packages.

        Raises:
            MissingPartError: something that is needed is not installed.
        """
        ...

    def open(self, subjects: Sequence[int]) -> None:
        """Load what subjects need, unless it is loaded.

        Raises:
            BundleError: a file cannot be read.
            ToolError: a runtime failed.
        """
        ...

    def prepare(self, pixels: Pixels) -> Outputs:
        """Return what all subjects need of some images."""
        ...

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        """Return one result for each image.

        Raises:
            ToolError: a runtime failed.
        """
        ...


class Workers(Protocol):
    """Carries out work."""

    def map(self, work: Work, shards: Iterator[Shard]) -> Iterator[Found]:
        """Yield the results of each shard, in order; those of a shard without images are empty.

        Args:
            work: what is computed.
            shards: taken a few ahead of the results.

        Raises:
            DataError: an image cannot be used (raised when its shard is reached).
            BundleError: a file cannot be read.
            MissingPartError: a worker has another environment than this process.
            ToolError: a runtime failed, or the workers did.
        """
        ...


def load(work: Work, shard: Shard, each: Mapper = map) -> Lot:
    """Load a shard's images and what is right in them; `each` calls the loading of one image for all.

    Raises:
        DataError: an image cannot be used.
    """

    def loaded(index: int) -> tuple[Pixels, NDArray[Any] | None]:
        return work.images.load(index, work.preprocessing), work.images.truth(index, work.preprocessing)

    found = list(each(loaded, shard.indices))
    truths = [truth for _, truth in found if truth is not None]
    return Lot(np.stack([pixels for pixels, _ in found]), truths or None)


def run(work: Work, shard: Shard, lot: Lot, subject: int) -> Sequence[bytes]:
    """Return a subject's results for the images that it lacks; the lot is prepared."""
    wanted = shard.wanted[subject]
    return work.run(subject, lot.select(wanted)) if wanted else ()
