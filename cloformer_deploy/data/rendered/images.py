"""A range of the rendered task as a set of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.batches import Batch, stream
from cloformer_deploy.data.preprocessing import Preprocessing, fit
from cloformer_deploy.data.rendered.drawing import VERSION, label, render


@dataclass(frozen=True)
class RenderedImages:
    """ImageSet of one split; unlabeled ones are for models of other classes."""

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
        """See `Dataset.labels`."""
        return [label(index) for index in self.indices] if self.labeled else None

    def identity(self, index: int) -> str:
        """See `Dataset.identity`; the same bytes come of it on every machine."""
        return f"rendered {VERSION} {self.split} {self.indices[index]}"

    def select(self, indices: Sequence[int]) -> "RenderedImages":
        """See `Dataset.select`."""
        return replace(self, indices=[self.indices[index] for index in indices])

    def limited(self, max_images: int | None) -> "RenderedImages":
        """See `Dataset.limited`; of rendered images there are as many as are asked for, from the first on."""
        if max_images is None:
            return self
        return replace(self, indices=range(self.indices[0], self.indices[0] + max_images))

    def image(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """One image at the input's size: RGB uint8, (3, H, W)."""
        return fit(Image.fromarray(render(self.split, index)), preprocessing)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """See `Images.batches`."""
        return stream(self.indices, self.labels, lambda index: self.image(index, preprocessing), size)


def probe_images(count: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The first test images, at the input's size: uint8, (count, 3, H, W).

    They show whether a file runs and how far its numbers are from PyTorch's, whatever its classes are.
    """
    images = RenderedImages("test", range(count))
    return np.stack([images.image(index, preprocessing) for index in images.indices])
