"""Renders one image of the data set: background, an object of its class, foreground, and a camera."""

import math

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.rendered import discs, outlines, panels
from cloformer_deploy.data.rendered.camera import photograph
from cloformer_deploy.data.rendered.figure import Figure, Painter
from cloformer_deploy.data.rendered.placement import Placement
from cloformer_deploy.data.rendered.plane import Plane, Point
from cloformer_deploy.data.rendered.randomness import Field, Stream, direction
from cloformer_deploy.data.rendered.scenery import Color, background, cloud, color, distance, doubled, leaf

VERSION = 1
"""Version of the data set, incremented whenever any image changes; figures of different versions do not compare."""

SIZE = 224
"""Height and width of an image, pixels."""

SPLITS = ("train", "validation", "calibration", "test")
"""Parts of the data set. They have no images in common: the name of the split is part of the random seed."""

PAINTERS: dict[str, Painter] = {
    "arrow": outlines.arrow,
    "basket": panels.basket,
    "beach ball": discs.beach_ball,
    "brick wall": panels.brick_wall,
    "button": discs.button,
    "checkerboard": panels.checkerboard,
    "clock": discs.clock,
    "crescent": outlines.crescent,
    "dartboard": discs.dartboard,
    "fish": outlines.fish,
    "gear": discs.gear,
    "heart": outlines.heart,
    "honeycomb": panels.honeycomb,
    "house": outlines.house,
    "key": outlines.key,
    "mushroom": outlines.mushroom,
    "spiral": discs.spiral,
    "star": outlines.star,
    "umbrella": outlines.umbrella,
    "wheel": discs.wheel,
}

CLASSES = tuple(PAINTERS)
"""Names of the classes, sorted."""


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
    roughness = cloud(random, SIZE)
    canvas = background(random, palette, roughness)
    _add_object(canvas, random, PAINTERS[CLASSES[label(index)]], roughness)
    return photograph(canvas, random)


def _add_object(canvas: Field, random: Stream, painter: Painter, roughness: Field) -> None:
    """Draw an object with its shadow, and up to two leaves in front of it, in place."""
    half_side = random.uniform(0.24, 0.46) * SIZE
    room = SIZE / 2 - 0.88 * half_side
    place = (SIZE / 2 + random.uniform(-room, room), SIZE / 2 + random.uniform(-room, room))
    turns = random.uniform(-0.13, 0.13)
    shape = Placement.at(*place, half_side, turns, random.uniform(0.82, 1.22), random.uniform(-0.25, 0.25))
    placement = shape.tilted(random, 0.22)
    window = placement.window(SIZE)
    plane = placement.plane(window)
    if random.chance(0.5):
        plane = Plane(-plane.u, plane.v, plane.pixel)
    figure = painter(plane, random)
    _cast_shadow(canvas, random, window, figure, half_side)
    colors = _pair(random, _seen_at(canvas, window))
    x, y = direction(random.uniform(0, 1))
    slope = random.uniform(0, 0.35)
    light = 1 + plane.u * (x * slope) + plane.v * (y * slope)
    light += roughness.T[window] * (random.uniform(0.02, 0.15))
    for channel, first, second in zip(canvas[:, *window], *colors, strict=True):
        channel += figure.cover * ((figure.tone * (second - first) + first) * light - channel)
    palette = [color(random) for _ in range(2)]
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        before = _over_the_edge(random, place, half_side)
        leaf(canvas, random, palette, roughness, before, random.uniform(0.15, 0.35) * half_side)


def _pair(random: Stream, behind: Color) -> tuple[Color, Color]:
    """Return two distinct colors; the first, at the outline of most figures, is distinct from `behind` too."""
    while True:
        first, second = color(random), color(random)
        if distance(first, second) > 0.2 and distance(first, behind) > 0.22:
            return first, second


def _seen_at(canvas: Field, window: tuple[slice, slice]) -> Color:
    """Return the mean color of 25 places in a window.

    math.fsum is exact, whereas numpy's sums differ between machines in their last bits.
    """
    rows, columns = (
        [span.start + (span.stop - span.start) * part // 10 for part in (1, 3, 5, 7, 9)] for span in window
    )
    red, green, blue = (math.fsum(float(c[y, x]) for y in rows for x in columns) / 25 for c in canvas)
    return red, green, blue


def _cast_shadow(canvas: Field, random: Stream, window: tuple[slice, slice], figure: Figure, half_side: float) -> None:
    """Darken the canvas by the figure's shadow, in place: its cover, shifted, and softened at a quarter resolution."""
    depth = random.uniform(0, 0.6)
    soft = doubled(doubled(figure.cover[::4, ::4]))[: figure.cover.shape[0], : figure.cover.shape[1]]
    down, right = (int(random.uniform(-0.15, 0.15) * half_side) for _ in range(2))
    rows, columns = (
        slice(max(span.start + move, 0), min(span.stop + move, SIZE))
        for span, move in zip(window, (down, right), strict=True)
    )
    part = soft[
        rows.start - window[0].start - down : rows.stop - window[0].start - down,
        columns.start - window[1].start - right : columns.stop - window[1].start - right,
    ]
    canvas[:, rows, columns] *= 1 - part * depth


def _over_the_edge(random: Stream, place: Point, half_side: float) -> Point:
    """Return a random place for a leaf in front of the object, nearer to its edge than to its middle."""
    x, y = direction(random.uniform(0, 1))
    away = random.uniform(0.45, 0.95) * half_side
    return place[0] + x * away, place[1] + y * away
