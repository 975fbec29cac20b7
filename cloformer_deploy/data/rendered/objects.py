"""Draws an object of one of the classes into an image: its shadow, its colors and the light on it."""

import math

from cloformer_deploy.data.rendered import discs, outlines, panels
from cloformer_deploy.data.rendered.figure import Drawn, Figure, Painter
from cloformer_deploy.data.rendered.placement import Placement, Window
from cloformer_deploy.data.rendered.plane import Plane, Point
from cloformer_deploy.data.rendered.randomness import Field, Stream, direction
from cloformer_deploy.data.rendered.scenery import Color, color, distance, doubled

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


def draw_object(
    canvas: Field, random: Stream, painter: Painter, surface: Field, place: Point, half_side: float
) -> Drawn:
    """Draw an object with its shadow, in place.

    Args:
        canvas: float32 (3, height, width).
        random: source of the object's pose, proportions, colors and light.
        painter: of its class.
        surface: 1/f noise of the object's surface, (height, width).
        place: center of the object (column, row), pixels.
        half_side: half of the side of the object's square, pixels.
    """
    turns = random.uniform(-0.13, 0.13)
    shape = Placement.at(*place, half_side, turns, random.uniform(0.82, 1.22), random.uniform(-0.25, 0.25))
    placement = shape.tilted(random, 0.22)
    window = placement.window(*surface.shape)
    plane = placement.plane(window)
    if random.chance(0.5):
        plane = Plane(-plane.u, plane.v, plane.pixel)
    figure = painter(plane, random)
    _cast_shadow(canvas, random, window, figure, half_side)
    colors = _pair(random, _seen_at(canvas, window))
    x, y = direction(random.uniform(0, 1))
    slope = random.uniform(0, 0.35)
    light = 1 + plane.u * (x * slope) + plane.v * (y * slope)
    light += surface[window] * (random.uniform(0.02, 0.15))
    for channel, first, second in zip(canvas[:, *window], *colors, strict=True):
        channel += figure.cover * ((figure.tone * (second - first) + first) * light - channel)
    return Drawn(window, figure.cover)


def over_the_edge(random: Stream, place: Point, half_side: float) -> Point:
    """Return a random place for a leaf in front of the object, nearer to its edge than to its middle."""
    x, y = direction(random.uniform(0, 1))
    away = random.uniform(0.45, 0.95) * half_side
    return place[0] + x * away, place[1] + y * away


def _pair(random: Stream, behind: Color) -> tuple[Color, Color]:
    """Return two distinct colors; the first, at the outline of most figures, is distinct from `behind` too."""
    while True:
        first, second = color(random), color(random)
        if distance(first, second) > 0.2 and distance(first, behind) > 0.22:
            return first, second


def _seen_at(canvas: Field, window: Window) -> Color:
    """Return the mean color of 25 places in a window.

    math.fsum is exact, whereas numpy's sums differ between machines in their last bits.
    """
    rows, columns = (
        [span.start + (span.stop - span.start) * part // 10 for part in (1, 3, 5, 7, 9)] for span in window
    )
    red, green, blue = (math.fsum(float(c[y, x]) for y in rows for x in columns) / 25 for c in canvas)
    return red, green, blue


def _cast_shadow(canvas: Field, random: Stream, window: Window, figure: Figure, half_side: float) -> None:
    """Darken the canvas by the figure's shadow, in place: its cover, shifted, and softened at a quarter resolution."""
    depth = random.uniform(0, 0.6)
    soft = doubled(doubled(figure.cover[::4, ::4]))[: figure.cover.shape[0], : figure.cover.shape[1]]
    down, right = (int(random.uniform(-0.15, 0.15) * half_side) for _ in range(2))
    rows, columns = (
        slice(max(span.start + move, 0), min(span.stop + move, side))
        for span, move, side in zip(window, (down, right), canvas.shape[1:], strict=True)
    )
    part = soft[
        rows.start - window[0].start - down : rows.stop - window[0].start - down,
        columns.start - window[1].start - right : columns.stop - window[1].start - right,
    ]
    canvas[:, rows, columns] *= 1 - part * depth
