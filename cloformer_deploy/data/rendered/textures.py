"""Textures without information about the class, for the classes that differ in outline and for dead leaves."""

import numpy as np

from cloformer_deploy.data.rendered.plane import Plane, either
from cloformer_deploy.data.rendered.randomness import Field, Stream, direction

_KINDS = ("plain", "plain", "stripes", "checks", "dots", "rings", "wedges")


def filling(plane: Plane, random: Stream) -> Field:
    """Return the filling of an outline: mostly one color, otherwise any texture, so that none is typical of a class."""
    return np.zeros_like(plane.u) if random.chance(0.8) else texture(plane, random)


def texture(plane: Plane, random: Stream) -> Field:
    """Return the share of the second color at each pixel, 0..1: plain, or a pattern of random size, angle and place."""
    kind = random.choice(_KINDS)
    if kind == "plain":
        return np.zeros_like(plane.u)
    x, y = direction(random.uniform(0, 1))
    u0, v0 = random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6)
    moved = Plane(plane.u * x + plane.v * y - u0, plane.v * x - plane.u * y - v0, plane.pixel)
    period = random.uniform(0.2, 0.6)
    if kind == "stripes":
        return plane.waves(moved.u, period, random.uniform(0.25, 0.6))
    if kind == "checks":
        return either(moved.waves(moved.u, period), moved.waves(moved.v, period))
    if kind == "dots":
        return _dots(moved, period, random.uniform(0.2, 0.38))
    if kind == "rings":
        return moved.waves(moved.radius, period, random.uniform(0.3, 0.6))
    return moved.spokes(random.whole(3, 8), random.uniform(0.3, 0.6))


def _dots(plane: Plane, period: float, size: float) -> Field:
    u, v = plane.u / period, plane.v / period
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return plane.cover((np.sqrt(du * du + dv * dv) - size) * period)
