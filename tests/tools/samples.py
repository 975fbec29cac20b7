"""A tiny folder of images and a tiny recipe, for the tests of the training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.training.recipe import Recipe, Stage

CLASSES = ("cross", "dot")


def write_images(root: Path, each: int = 8) -> Path:
    """`each` noisy images of 40 x 48 px in a sub-folder for each of `CLASSES`."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 128, (48, 40, 3), np.uint8) + np.uint8(100 * number)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def tiny_recipe(**changes: Any) -> Recipe:
    """A recipe for `write_images`, with the changes."""
    recipe = Recipe(
        "classification", "xxs", CLASSES, "tiny", 16, None, (Stage((32, 32), 2), Stage((64, 64), 0.5)), batch=4
    )
    return dataclasses.replace(recipe, **changes)
