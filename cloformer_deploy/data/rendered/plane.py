"""The plane that a figure is drawn on: coordinates at each pixel, signed distances, coverage.

A figure fills [-1, 1] x [-1, 1], with u to the right and v down. Distances are negative inside a shape. Arrays are
computed with +, -, *, /, square roots and comparisons only, which IEEE 754 rounds in the same way on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from cloformer_deploy.data.rendered.randomness import Field

Point = tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """The figure coordinates of some pixels.

    Attributes:
        u: coordinate to the right, float32 (H, W).
        v: coordinate down, float32 (H, W).
        pixel: length of one pixel in figure coordinates.
    """

    u: Field
    v: Field
    pixel: float

    def cover(self, distance: Field) -> Field:
        """Return the share of each pixel that is inside a shape, 0..1, from the distances to the shape."""
        share: Field = np.clip(0.5 - distance / self.pixel, 0, 1)
        return share

    @cached_property
    def radius(self) -> Field:
        """Distance from the origin."""
        radius: Field = np.sqrt(self.u * self.u + self.v * self.v)
        return radius

    @cached_property
    def turns(self) -> Field:
        """Angle around the origin in turns, -0.5..0.5, with an error below 0.0001."""
        x, y = np.abs(self.u), np.abs(self.v)
        ratio = np.minimum(x, y) / np.maximum(np.maximum(x, y), 1e-6)
        square = ratio * ratio
        # A minimax polynomial for the arc tangent on [0, 1], divided by 2 pi.
        angle = ((-0.00740014 * square + 0.02535565) * square - 0.05214279) * square * ratio + 0.15915494 * ratio
        angle = np.where(y > x, 0.25 - angle, angle)
        angle = np.where(self.u < 0, 0.5 - angle, angle)
        return np.where(self.v < 0, -angle, angle)

    def disc(self, x: float, y: float, radius: float) -> Field:
        """Return the distance to a disc."""
        du, dv = self.u - x, self.v - y
        distance: Field = np.sqrt(du * du + dv * dv) - radius
        return distance

    def ring(self, x: float, y: float, radius: float, half_width: float) -> Field:
        """Return the distance to a circle with a line of some width."""
        return np.abs(self.disc(x, y, radius)) - half_width

    def box(self, x: float, y: float, half_width: float, half_height: float) -> Field:
        """Return the distance to an upright rectangle: the larger one of the two axes, for sharp corners."""
        distance: Field = np.maximum(np.abs(self.u - x) - half_width, np.abs(self.v - y) - half_height)
        return distance

    def segment(self, start: Point, end: Point, half_width: float) -> Field:
        """Return the distance to a straight line of some width, with round ends."""
        du, dv = self.u - start[0], self.v - start[1]
        x, y = end[0] - start[0], end[1] - start[1]
        along = np.clip((du * x + dv * y) / (x * x + y * y), 0, 1)
        du, dv = du - along * x, dv - along * y
        return np.sqrt(du * du + dv * dv) - half_width

    def polygon(self, points: Sequence[Point]) -> Field:
        """Return the distance to a polygon, convex or not, given by its corners in order."""
        nearest = np.full_like(self.u, np.inf)
        inside = np.zeros(self.u.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            ex, ey = x1 - x0, y1 - y0
            du, dv = self.u - x0, self.v - y0
            along = np.clip((du * ex + dv * ey) / (ex * ex + ey * ey), 0, 1)
            bu, bv = du - along * ex, dv - along * ey
            nearest = np.minimum(nearest, bu * bu + bv * bv)
            # A point is inside if a ray from it to the right crosses an odd number of edges.
            crossed = (self.v >= min(y0, y1)) & (self.v < max(y0, y1))
            inside ^= crossed & ((ex * dv > ey * du) == (ey > 0))
        distance = np.sqrt(nearest)
        return np.where(inside, -distance, distance)

    def waves(self, across: Field, period: float, share: float = 0.5) -> Field:
        """Return stripes with soft edges: 1 on a `share` of each period of the coordinate `across`, else 0."""
        phase = across / period
        phase = phase - np.floor(phase)
        return self.cover((np.abs(phase - 0.5) - share / 2) * period)

    def spokes(self, count: int, share: float, start: float = 0.0) -> Field:
        """Return wedges with soft edges: 1 on a `share` of each of `count` equal angles around the origin, else 0."""
        phase = self.turns * count + start
        phase = phase - np.floor(phase)
        arc = self.radius * (2 * math.pi / count)
        return self.cover((np.abs(phase - 0.5) - share / 2) * arc)

    def beam(self, count: int, half_width: float, start: float = 0.0) -> Field:
        """Return the distance to `count` straight beams of equal width, from the origin outwards."""
        phase = self.turns * count + start
        phase = phase - np.floor(phase)
        distance: Field = np.abs(phase - 0.5) * self.radius * (2 * math.pi / count) - half_width
        return distance


def union(*distances: Field) -> Field:
    """Return the distance to the nearest of several shapes."""
    return reduce(np.minimum, distances)


def either(a: Field, b: Field) -> Field:
    """Return the coverage by exactly one of two shapes, from the coverage by each."""
    return a + b - 2 * a * b
