"""Renders one image of the data set: background, an object of its class, foreground, and a camera."""

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.rendered.camera import photograph
from cloformer_deploy.data.rendered.figure import Painter
from cloformer_deploy.data.rendered.objects import CLASSES, PAINTERS, draw_object, over_the_edge
from cloformer_deploy.data.rendered.randomness import Field, Stream
from cloformer_deploy.data.rendered.scenery import background, cloud, color, leaf

VERSION = 1
"""Version of the data set, incremented whenever any image changes; figures of different versions do not compare."""

SIZE = 224
"""Height and width of an image, pixels."""

SPLITS = ("train", "validation", "calibration", "test")
"""Parts of the data set. They have no images in common: the name of the split is part of the random seed."""


def label(index: int) -> int:
    """Return the class index of an image, in any split: every 20 consecutive images have each class once."""
    return index % len(CLASSES)


def render(split: str, index: int) -> NDArray[np.uint8]:
    """Render image `index` of a split: RGB, uint8, (224, 224, 3); the same bytes on every machine.

    Raises:
        ValueError: the split does not exist, or the index is negative.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f"there is no image {index} in split {split!r} (splits: {', '.join(SPLITS)})")
    random = Stream("cloformer-deploy rendered task", VERSION, split, index)
    palette = [color(random) for _ in range(5)]
    roughness = cloud(random, SIZE, SIZE)
    canvas = background(random, palette, roughness)
    _add_object(canvas, random, PAINTERS[CLASSES[label(index)]], roughness)
    return photograph(canvas, random).pixels


def _add_object(canvas: Field, random: Stream, painter: Painter, roughness: Field) -> None:
    """Draw an object with its shadow, and up to two leaves in front of it, in place."""
    half_side = random.uniform(0.24, 0.46) * SIZE
    room = SIZE / 2 - 0.88 * half_side
    place = (SIZE / 2 + random.uniform(-room, room), SIZE / 2 + random.uniform(-room, room))
    draw_object(canvas, random, painter, roughness.T, place, half_side)
    palette = [color(random) for _ in range(2)]
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        before = over_the_edge(random, place, half_side)
        leaf(canvas, random, palette, roughness, before, random.uniform(0.15, 0.35) * half_side)
