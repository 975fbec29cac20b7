"""Renders scenes: one to five objects of the rendered classes in one image, with exact masks and boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.masks import IGNORED
from cloformer_deploy.data.rendered.camera import photograph
from cloformer_deploy.data.rendered.drawing import SIZE, SPLITS
from cloformer_deploy.data.rendered.figure import Drawn
from cloformer_deploy.data.rendered.objects import CLASSES, PAINTERS, draw_object, over_the_edge
from cloformer_deploy.data.rendered.plane import Point
from cloformer_deploy.data.rendered.randomness import Field, Stream
from cloformer_deploy.data.rendered.scenery import OCTAVES, background, cloud, color, leaf

SCENES_VERSION = 1
"""Version of the scenes, incremented whenever any scene changes; figures of different versions do not compare."""

SCENE_CLASSES = ("background", *CLASSES)
"""Classes of a mask's pixels, in order."""

MOST_OBJECTS = 5
BLOCK = 20
"""Scenes that are balanced together: in those from a multiple of it on, each class occurs three times, and each number
of objects four times."""

LEAST_VISIBLE = 0.25
"""Share of an object's pixels in the image that must be visible for the object to count."""

_TRIES = 2
_MARGIN = 0.6


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene, as far as it is visible.

    Attributes:
        index: its class, an index of `CLASSES`.
        box: left, top, right and bottom edges of its visible pixels, pixels; right and bottom are outside.
        area: number of its visible pixels.
        ignored: it does not count: less than `LEAST_VISIBLE` of it is visible.
    """

    index: int
    box: tuple[int, int, int, int]
    area: int
    ignored: bool


@dataclass(frozen=True)
class Scene:
    """An image with several objects.

    Attributes:
        pixels: RGB, uint8, (H, W, 3).
        owners: of each pixel, uint8, (H, W): 0 is background, n the n-th object, `IGNORED` unknown.
        objects: those with a visible pixel, from back to front.
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Class of each pixel, uint8, (H, W): an index of `SCENE_CLASSES`, or `IGNORED`."""
        classes = np.full(256, IGNORED, np.uint8)
        classes[0] = 0
        for number, item in enumerate(self.objects, start=1):
            classes[number] = IGNORED if item.ignored else 1 + item.index
        return classes[self.owners]

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Objects, (n, 6): edges from 0 to 1 of the image, an index of `CLASSES`, and 1 if the object is ignored."""
        height, width = self.owners.shape
        rows = [(*item.box, item.index, item.ignored) for item in self.objects]
        found = np.array(rows, np.float32).reshape(-1, 6)
        found[:, :4] /= np.array([width, height, width, height], np.float32)
        return found


@lru_cache(maxsize=4)
def render_scene(split: str, index: int, height: int = SIZE, width: int = SIZE) -> Scene:
    """Render scene `index` of a split; the same bytes on every machine.

    Args:
        split: one of `SPLITS`, which have no scenes in common.
        index: of the scene, from 0.
        height: of the image, pixels; another size has other objects.
        width: of the image, pixels.

    Raises:
        ValueError: the split does not exist, the index is negative, or a side is not a positive multiple of 32.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f"there is no scene {index} in split {split!r} (splits: {', '.join(SPLITS)})")
    if min(height, width) < 1 or height % 2**OCTAVES or width % 2**OCTAVES:
        raise ValueError(f"sides {height} and {width} must be positive multiples of {2**OCTAVES}")
    random = Stream("cloformer-deploy rendered scenes", SCENES_VERSION, split, index, height, width)
    palette = [color(random) for _ in range(5)]
    roughness = cloud(random, height, width)
    canvas = background(random, palette, roughness)
    classes = scene_classes(split, index)
    owners, drawn = _add_objects(canvas, random, classes, roughness)
    photo = photograph(canvas, random)
    return _judged(photo.pixels, _moved(owners, photo.moved), classes, [_pixels(item) for item in drawn])


def scene_classes(split: str, index: int) -> tuple[int, ...]:
    """Return the class of each object of a scene, from back to front, before any is hidden."""
    return _dealt(split, index // BLOCK)[index % BLOCK]


@lru_cache(maxsize=64)
def _dealt(split: str, block: int) -> tuple[tuple[int, ...], ...]:
    """Return the classes of the objects of each scene of a block."""
    random = Stream("cloformer-deploy scene classes", SCENES_VERSION, split, block)
    counts = [1 + place % MOST_OBJECTS for place in range(BLOCK)]
    cards = [place % len(CLASSES) for place in range(sum(counts))]
    for items in (counts, cards):
        for last in range(len(items) - 1, 0, -1):
            other = random.whole(0, last)
            items[last], items[other] = items[other], items[last]
    ends = np.cumsum(counts).tolist()
    return tuple(tuple(cards[end - count : end]) for count, end in zip(counts, ends, strict=True))


def _add_objects(
    canvas: Field, random: Stream, classes: Sequence[int], roughness: Field
) -> tuple[NDArray[np.uint8], list[Drawn]]:
    """Draw the objects and up to three leaves in front of them; return each pixel's owner and the objects."""
    height, width = roughness.shape
    side, surface = min(height, width), roughness[::-1]
    owners = np.zeros((height, width), np.uint8)
    largest = 0.44 / math.sqrt(len(classes)) + 0.04
    places: list[tuple[Point, float]] = []
    drawn = []
    for number, index in enumerate(classes, start=1):
        half_side = random.uniform(0.11, largest) * side
        place = _place(random, (height, width), half_side, [other for other, _ in places])
        drawn.append(draw_object(canvas, random, PAINTERS[CLASSES[index]], surface, place, half_side))
        _own(owners, drawn[-1], number)
        places.append((place, half_side))
    palette = [color(random) for _ in range(2)]
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        place, half_side = random.choice(places)
        before = over_the_edge(random, place, half_side)
        _own(owners, leaf(canvas, random, palette, roughness, before, random.uniform(0.15, 0.35) * half_side), 0)
    return owners, drawn


def _place(random: Stream, size: tuple[int, int], half_side: float, others: Sequence[Point]) -> Point:
    """Return a random center (column, row), of a few the one that is farthest from the other objects."""
    height, width = size
    tries = []
    for _ in range(_TRIES):
        x, y = (random.uniform(_MARGIN * half_side, length - _MARGIN * half_side) for length in (width, height))
        tries.append((min(((x - u) ** 2 + (y - v) ** 2 for u, v in others), default=0.0), (x, y)))
    return max(tries)[1]


def _own(owners: NDArray[np.uint8], drawn: Drawn, number: int) -> None:
    """Give the pixels of which something covers more than half to a number, in place."""
    owners[drawn.window][drawn.cover > 0.5] = number


def _pixels(drawn: Drawn) -> int:
    return int((drawn.cover > 0.5).sum())


def _moved(owners: NDArray[np.uint8], moved: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the owners after a shift by rows and columns; what came in at an edge is unknown."""
    shifted = np.roll(owners, moved, axis=(0, 1))
    for axis, step in enumerate(moved):
        edge = [slice(None), slice(None)]
        edge[axis] = slice(0, step) if step >= 0 else slice(step, None)
        shifted[tuple(edge)] = IGNORED
    return shifted


def _judged(
    pixels: NDArray[np.uint8], owners: NDArray[np.uint8], classes: Sequence[int], whole: Sequence[int]
) -> Scene:
    """Return the scene with those objects that are visible, numbered from back to front without gaps."""
    numbers = np.zeros(256, np.uint8)
    numbers[IGNORED] = IGNORED
    objects: list[SceneObject] = []
    for number, (index, count) in enumerate(zip(classes, whole, strict=True), start=1):
        mine = owners == number
        area = int(mine.sum())
        if not area:
            continue
        rows, columns = (np.flatnonzero(mine.any(axis=axis)) for axis in (1, 0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        objects.append(SceneObject(index, box, area, area < LEAST_VISIBLE * count))
        numbers[number] = len(objects)
    return Scene(pixels, numbers[owners], tuple(objects))
