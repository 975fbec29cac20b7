"""A range of the rendered data set as an image set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.batches import Batch, batches_of
from cloformer_deploy.data.preprocessing import Preprocessing, fit
from cloformer_deploy.data.rendered.drawing import VERSION, label, render


@dataclass(frozen=True)
class RenderedImages:
    """Images of one split of the rendered data set; see `Dataset`.

    Attributes:
        split: one of `drawing.SPLITS`.
        indices: of the images in the split; not empty.
        labeled: false leaves the labels out, for models with other classes.
        warnings: for the user.
    """

    split: str
    indices: Sequence[int]
    labeled: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Split and range, such as `rendered test 0-999`."""
        return f"rendered {self.split} {self.indices[0]}-{self.indices[-1]}"

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> list[int] | None:
        """Class index of each image; None if the set is unlabeled."""
        return [label(index) for index in self.indices] if self.labeled else None

    @property
    def has_targets(self) -> bool:
        """True if the images have classes."""
        return self.labeled

    def truth(self, index: int, preprocessing: Preprocessing) -> None:
        """Return nothing: a class is all that the images have; see `Dataset.truth`."""

    def identity(self, index: int) -> str:
        """Return version, split and index, which determine the pixels on every machine."""
        return f"rendered {VERSION} {self.split} {self.indices[index]}"

    def select(self, indices: Sequence[int]) -> "RenderedImages":
        """Return a set of the images at these places of `indices`, in this order."""
        return replace(self, indices=[self.indices[index] for index in indices])

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image at the model's input size, RGB uint8 (3, H, W); see `Dataset.load`."""
        return self.image(self.indices[index], preprocessing)

    def limited(self, max_images: int | None) -> "RenderedImages":
        """Return exactly `max_images` consecutive images from the first index on; all images if it is None.

        Unlike other data sets the rendered one has any number of images, so the result may be larger than this set.
        """
        if max_images is None:
            return self
        return replace(self, indices=range(self.indices[0], self.indices[0] + max_images))

    def image(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the image with this index in the split, at the model's input size: RGB, uint8, (3, H, W)."""
        return fit(Image.fromarray(render(self.split, index)), preprocessing)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size; see `ImageSet.batches`."""
        return batches_of(self, preprocessing, size)


def probe_images(count: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the first images of the test split, at the model's input size: RGB, uint8, (count, 3, H, W).

    They show whether an artifact runs, and how far its outputs are from PyTorch's, for a model of any classes.
    """
    images = RenderedImages("test", range(count))
    return np.stack([images.image(index, preprocessing) for index in images.indices])
