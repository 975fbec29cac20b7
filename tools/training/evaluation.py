"""Top-1 on labeled images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cloformer_deploy.data.preprocessing import Preprocessing, fit
from tools.training.sources import Source

BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy (`top1`, 0..1) on `n` images at `size` px."""

    size: int
    n: int
    top1: float


def whole(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The whole image at `size` px, bilinear with antialiasing: what a training at that size is judged by.

    RGB uint8, (3, size, size); an image that has the size already is taken as it is.
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def published(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The image as the command line's validation sees it: RGB uint8, (3, size, size)."""
    return fit(image, Preprocessing.published(size, size))


def evaluate(model: nn.Module, source: Source, indices: Sequence[int], size: int, *, final: bool) -> Accuracy:
    """Top-1 of a model in eval mode on the source's images of these indices.

    Args:
        model: with normalized input (B, 3, size, size).
        source: of the images.
        indices: which of them.
        size: in px.
        final: prepare them as the command line does, instead of showing the whole image.
    """
    device = next(model.parameters()).device
    right = 0
    with torch.inference_mode():
        for images, labels in _batches(source, indices, size, published if final else whole):
            right += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
    return Accuracy(size, len(indices), right / len(indices))


def _batches(
    source: Source, indices: Sequence[int], size: int, prepare: Callable[[Image.Image, int], NDArray[np.uint8]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalized images (B, 3, size, size), channels last, and their classes (B,)."""
    preprocessing = Preprocessing.published(size, size)
    for first in range(0, len(indices), BATCH):
        taken = [source[index] for index in indices[first : first + BATCH]]
        images = preprocessing.normalize(np.stack([prepare(image, size) for image, _ in taken]))
        labels = torch.tensor([label for _, label in taken])
        yield torch.from_numpy(images).contiguous(memory_format=torch.channels_last), labels
