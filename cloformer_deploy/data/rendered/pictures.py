"""A range of the rendered task as a set of pictures."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.batches import Batch, stream
from cloformer_deploy.data.preprocessing import Preprocessing, fit
from cloformer_deploy.data.rendered.picture import label, render


@dataclass(frozen=True)
class RenderedPictures:
    """Pictures of one split; unlabelled ones are for models of other classes."""

    split: str
    indices: range
    labelled: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Split and range, such as `rendered test 0-999`."""
        return f"rendered {self.split} {self.indices[0]}-{self.indices[-1]}"

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """One picture at the input's size: RGB uint8, (3, H, W)."""
        return fit(Image.fromarray(render(self.split, index)), preprocessing)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """See `Pictures.batches`."""
        labels = [label(index) for index in self.indices] if self.labelled else None
        return stream(self.indices, labels, lambda index: self.picture(index, preprocessing), size)


def probe_pictures(count: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The first test pictures, at the input's size: uint8, (count, 3, H, W).

    They show whether a file runs and how far its numbers are from PyTorch's, whatever its classes are.
    """
    pictures = RenderedPictures("test", range(count))
    return np.stack([pictures.picture(index, preprocessing) for index in pictures.indices])
