"""Painters of classes that are a piece of a surface, cut square, oblong or round: only their texture differs."""

import numpy as np

from cloformer_deploy.data.rendered.figure import Figure
from cloformer_deploy.data.rendered.plane import Plane, either
from cloformer_deploy.data.rendered.randomness import Field, Stream

_ROOT3 = 1.7320508


def _cut(plane: Plane, random: Stream) -> Field:
    """Return the coverage of a square, an oblong or a disc."""
    kind = random.choice(("square", "oblong", "round"))
    if kind == "round":
        return plane.cover(plane.radius - 0.95)
    return plane.cover(plane.box(0, 0, 0.9, 0.9 if kind == "square" else random.uniform(0.55, 0.75)))


def _within(coordinate: Field) -> Field:
    """Return the position within each unit cell, relative to its middle: -0.5..0.5."""
    return coordinate - np.floor(coordinate) - 0.5


def basket(plane: Plane, random: Stream) -> Figure:
    """Strands woven over and under one another: each cell shows one strand, across those of its neighbors."""
    cell = 1.8 / random.whole(4, 7)
    u, v = plane.u / cell, plane.v / cell
    odd = (np.floor(u) + np.floor(v)) % 2 == 1
    across = np.where(odd, np.abs(_within(u)), np.abs(_within(v)))
    along = np.where(odd, np.abs(_within(v)), np.abs(_within(u)))
    gap = plane.cover((0.42 - across) * cell)
    # A strand is bright along its middle, and darkens where it goes under the next one.
    shade = np.clip(across * 1.1 + np.maximum(along - 0.3, 0) * 1.5, 0, 1)
    return Figure(_cut(plane, random), np.maximum(gap, shade))


def brick_wall(plane: Plane, random: Stream) -> Figure:
    """Rows of bricks, each shifted by half a brick, with mortar between them."""
    height = 1.8 / random.whole(5, 8)
    length = height * random.uniform(1.9, 2.5)
    joint = height * random.uniform(0.08, 0.14)
    v = plane.v / height
    u = plane.u / length + (np.floor(v) % 2) * 0.5
    edge = np.minimum((0.5 - np.abs(_within(u))) * length, (0.5 - np.abs(_within(v))) * height)
    # Bricks differ in brightness, by a hash of the brick's row and column.
    burnt = np.floor(u) * 0.37 + np.floor(v) * 0.59
    burnt = (burnt - np.floor(burnt)) * 0.3
    return Figure(_cut(plane, random), np.maximum(plane.cover(edge - joint), burnt))


def checkerboard(plane: Plane, random: Stream) -> Figure:
    """Squares of two alternating colors."""
    period = 3.6 / random.whole(4, 8)
    return Figure(_cut(plane, random), either(plane.waves(plane.u, period), plane.waves(plane.v, period)))


def honeycomb(plane: Plane, random: Stream) -> Figure:
    """Six-sided cells with thin walls."""
    side = 1.8 / random.whole(4, 7)
    u, v = plane.u / side, plane.v / side
    # The centers of the cells form two lattices, one shifted by half the spacing; a point is in the cell of the
    # nearest center.
    nearest = np.full_like(u, np.inf)
    wall = np.zeros_like(u)
    for shift in (0.0, 0.5):
        du, dv = np.abs(_within(u + shift)), np.abs(_within(v / _ROOT3 + shift)) * _ROOT3
        distance = du * du + dv * dv
        to_wall = 0.5 - np.maximum(du, du * 0.5 + dv * (_ROOT3 / 2))
        wall = np.where(distance < nearest, to_wall, wall)
        nearest = np.minimum(nearest, distance)
    return Figure(_cut(plane, random), plane.cover((wall - random.uniform(0.07, 0.13)) * side))
