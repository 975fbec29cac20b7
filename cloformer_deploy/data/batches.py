"""ImageSet as a stream of batches, whatever they come from."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.preprocessing import Preprocessing

LOADING_THREADS = 2
_T = TypeVar("_T")


@dataclass(frozen=True)
class Batch:
    """ImageSet (B, 3, H, W), RGB uint8, and their labels, (B,) int64, or None where unlabeled."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


class ImageSet(Protocol):
    """A set of images."""

    @property
    def name(self) -> str:
        """Which they are, for people."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was assumed about their labels, for the user to check."""
        ...

    def __len__(self) -> int: ...

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """The images in order, at the input's size; the last batch may be smaller.

        Raises:
            DataError: a image cannot be used (raised when its batch is reached).
        """
        ...


class Dataset(ImageSet, Protocol):
    """ImageSet of which each can be told from others, and loaded, by itself."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Of each image, or None where unlabeled."""
        ...

    def identity(self, index: int) -> str:
        """What a image is before preprocessing, whatever it is called: the same content, the same identity.

        Raises:
            DataError: it cannot be read.
        """
        ...

    def select(self, indices: Sequence[int]) -> "Dataset":
        """Return some of the images, by their indices, in this order."""
        ...

    def limited(self, max_images: int | None) -> "Dataset":
        """Return at most so many images, spread evenly so that every class keeps its share; all without a number."""
        ...


def stream(
    items: Sequence[_T], labels: Sequence[int] | None, load: Callable[[_T], NDArray[np.uint8]], size: int
) -> Iterator[Batch]:
    """Load (3, H, W) images batch by batch, one batch ahead of the consumer."""
    with ThreadPoolExecutor(LOADING_THREADS) as pool:
        ahead: list[Future[NDArray[np.uint8]]] = []
        start = 0
        for first in range(0, len(items), size):
            upcoming = [pool.submit(load, item) for item in items[first : first + size]]
            if ahead:
                yield _collect(ahead, labels, start)
                start += len(ahead)
            ahead = upcoming
        if ahead:
            yield _collect(ahead, labels, start)


def _collect(images: Sequence[Future[NDArray[np.uint8]]], labels: Sequence[int] | None, start: int) -> Batch:
    pixels = np.stack([image.result() for image in images])
    if labels is None:
        return Batch(pixels, None)
    return Batch(pixels, np.asarray(labels[start : start + len(images)], np.int64))
