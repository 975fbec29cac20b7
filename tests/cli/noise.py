"""ImageSet of noise with labels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.cli.command_line import CLASSES

IMAGES = CLASSES + 2


def spread(predicted: list[int]) -> list[int]:
    """A class for each image: every class has one, and at least two images are in the class PyTorch sees."""
    labels = [*range(CLASSES), predicted[-2], predicted[-1]]
    assert len(labels) == len(predicted) == IMAGES
    return labels


def write(folder: Path, pixels: NDArray[np.uint8], folders: Iterable[str]) -> None:
    for index, (image, name) in enumerate(zip(pixels, folders, strict=True)):
        path = folder / name / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def expected_top1(predicted: list[int]) -> float:
    return sum(map(int.__eq__, predicted, spread(predicted))) / IMAGES
