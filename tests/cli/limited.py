"""Images and calibration sets for `export --max-drop`, with ranges that fit the images or clip them."""

from pathlib import Path

import numpy as np
from PIL import Image

from cloformer_deploy.data import Preprocessing, RenderedImages
from cloformer_deploy.data.rendered import CLASSES
from tests.cli.command_line import EXPORT, spawn
from tests.tiny import TRAINED_SIDE

SIZE = TRAINED_SIDE
PREPROCESSING = Preprocessing.published(SIZE, SIZE)
INT8 = (*EXPORT, "--precision", "int8", "--json")


def save_images(folder: Path, split: str, count: int, contrast: float) -> Path:
    """Save rendered images in one sub-folder per class."""
    for batch in RenderedImages(split, range(count), True).batches(PREPROCESSING, count):
        assert batch.labels is not None
        for index, (pixels, label) in enumerate(zip(batch.pixels, batch.labels, strict=True)):
            path = folder / CLASSES[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            gray = 128 + (pixels.transpose(1, 2, 0).astype(np.float64) - 128) * contrast
            Image.fromarray(gray.astype(np.uint8)).save(path)
    return folder


def calibration(folder: Path, contrast: float, count: int) -> Path:
    """Make a calibration set of images of a contrast; where it is low, its ranges clip other images."""
    images = save_images(folder / "images", "calibration", count, contrast)
    made = folder / "calibration.safetensors"
    asked = ("calibrate", images, "--count", count, "--input-size", SIZE, "--output", made)
    assert spawn(*asked, cwd=folder).code == 0
    return made
