"""The Protocols of image sets, and the loading of their images in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.preprocessing import Preprocessing

LOADING_THREADS = 2
"""Threads that decode and resize images."""

_T = TypeVar("_T")
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class Batch:
    """Some images of a set.

    Attributes:
        pixels: RGB, uint8, (B, 3, H, W).
        labels: class indices, int64, (B,); None if the images have no classes.
        truths: what is right in each image where that is no single class: the class of each pixel, uint8, (H, W), or
            the objects, see `boxes.Objects`; None if nothing says it.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    truths: Sequence[NDArray[Any]] | None = None


class ImageSet(Protocol):
    """Images in a fixed order, read in batches."""

    @property
    def name(self) -> str:
        """Description of the set for messages, such as the path of its folder."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Assumptions about the set that the user should check, such as the order of its classes."""
        ...

    def __len__(self) -> int: ...

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size.

        Args:
            preprocessing: gives the input size and the resizing; the pixels are not normalized.
            size: images per batch; the last batch may be smaller.

        Raises:
            DataError: an image cannot be used (raised when its batch is reached).
        """
        ...


class Dataset(ImageSet, Protocol):
    """An image set whose images can also be identified and selected one by one."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Class index of each image; None if the images have no classes."""
        ...

    @property
    def has_targets(self) -> bool:
        """True if the set says what is right, by classes, masks or boxes."""
        ...

    def identity(self, index: int) -> str:
        """Return a text that identifies the content of an image before preprocessing, independent of its name.

        Equal content has equal identities, so that results can be cached by it.

        Raises:
            DataError: the image cannot be read.
        """
        ...

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image at the model's input size, RGB uint8 (3, H, W).

        Raises:
            DataError: the image cannot be used.
        """
        ...

    def truth(self, index: int, preprocessing: Preprocessing) -> NDArray[Any] | None:
        """Return what is right in an image at the model's input size; see `Batch.truths`.

        Raises:
            DataError: it cannot be used.
        """
        ...

    def select(self, indices: Sequence[int]) -> "Dataset":
        """Return a set of the images with these indices, in this order."""
        ...

    def limited(self, max_images: int | None) -> "Dataset":
        """Return at most `max_images` images, spread evenly so that every class keeps its share; all if it is None."""
        ...


def batches_of(images: Dataset, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
    """Yield all images of a set in order, with their targets; see `ImageSet.batches`."""
    indices = range(len(images))
    labels = images.labels

    def load(index: int) -> tuple[NDArray[np.uint8], NDArray[Any] | None]:
        return images.load(index, preprocessing), images.truth(index, preprocessing)

    first = 0
    for loaded in stream(indices, load, size):
        after = first + len(loaded)
        truths = [truth for _, truth in loaded if truth is not None]
        yield Batch(
            np.stack([pixels for pixels, _ in loaded]),
            None if labels is None else np.asarray(labels[first:after], np.int64),
            truths or None,
        )
        first = after


def evenly(count: int, most: int | None) -> list[int]:
    """Return the indices of at most `most` of `count` images, spread evenly; of all if it is None."""
    kept = count if most is None else min(count, most)
    return [index * count // kept for index in range(kept)]


def stream(items: Sequence[_T], load: Callable[[_T], _Loaded], size: int) -> Iterator[list[_Loaded]]:
    """Load items in batches, in order, while the caller works on the batch before.

    Loading is one batch ahead: the next batch is started before the current one is yielded.

    Args:
        items: one item per image.
        load: returns what an item stands for; called from several threads.
        size: items per batch; the last batch may be smaller.

    Raises:
        Exception: the error that `load` raised, when the batch of the item is reached.
    """
    with ThreadPoolExecutor(LOADING_THREADS) as pool:

        def start(first: int) -> list[Future[_Loaded]]:
            return [pool.submit(load, item) for item in items[first : first + size]]

        following = start(0)
        for first in range(0, len(items), size):
            loading, following = following, start(first + size)
            yield [item.result() for item in loading]
