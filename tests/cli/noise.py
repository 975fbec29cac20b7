"""Images of noise, with labels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
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


def classes_seen(weights: Path, pixels: NDArray[np.uint8]) -> list[int]:
    """The classes PyTorch sees in images (N, H, W, 3), computed without the code under test's preprocessing."""
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        logits = build_model(load_checkpoint(weights))((images - mean) / std)
    return [int(index) for index in logits.argmax(1)]


def expected_top1(predicted: list[int]) -> float:
    return sum(map(int.__eq__, predicted, spread(predicted))) / IMAGES
