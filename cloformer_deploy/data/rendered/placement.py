"""The placement of a figure in the image: rotation, scale, shear and perspective."""

import math
from dataclasses import dataclass

import numpy as np

from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Field, Stream, direction

Window = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class Placement:
    """A homography from figure coordinates to pixels.

    The figure's point (u, v) is at (x, y) + (a u + b v, c u + d v) / (1 + p u + q v) in the image.

    Attributes:
        x: column of the figure's origin, pixels.
        y: row of the figure's origin, pixels.
        a: pixels to the right per unit of u.
        b: pixels to the right per unit of v.
        c: pixels down per unit of u.
        d: pixels down per unit of v.
        p: perspective along u; |p| + |q| is below 1.
        q: perspective along v.
    """

    x: float
    y: float
    a: float
    b: float
    c: float
    d: float
    p: float = 0.0
    q: float = 0.0

    @classmethod
    def at(
        cls, x: float, y: float, half_side: float, turns: float, stretch: float = 1.0, shear: float = 0.0
    ) -> "Placement":
        """Return a placement without perspective: stretched, sheared, then rotated.

        Args:
            x: column of the figure's origin, pixels.
            y: row of the figure's origin, pixels.
            half_side: half of the side of the figure's square, pixels.
            turns: angle of the rotation, in turns, clockwise.
            stretch: factor along u; v is divided by it.
            shear: shift along u per unit of v.
        """
        cos, sin = direction(turns)
        wide, high = half_side * stretch, half_side / stretch
        return cls(x, y, cos * wide, (cos * shear - sin) * high, sin * wide, (sin * shear + cos) * high)

    def tilted(self, random: Stream, strength: float) -> "Placement":
        """Return the placement with a random perspective of at most this strength along each axis."""
        tilt = {axis: random.uniform(-strength, strength) for axis in ("p", "q")}
        return Placement(self.x, self.y, self.a, self.b, self.c, self.d, **tilt)

    def window(self, height: int, width: int) -> Window:
        """Return the rows and columns of an image that contain the figure; empty slices if it is outside."""
        corners = [self._pixel(u, v) for u in (-1.02, 1.02) for v in (-1.02, 1.02)]
        columns, rows = ([corner[axis] for corner in corners] for axis in (0, 1))
        return _span(min(rows), max(rows), height), _span(min(columns), max(columns), width)

    def _pixel(self, u: float, v: float) -> tuple[float, float]:
        depth = 1 + self.p * u + self.q * v
        return self.x + (self.a * u + self.b * v) / depth, self.y + (self.c * u + self.d * v) / depth

    def plane(self, window: Window) -> Plane:
        """Return the figure coordinates of the pixels of a window (rows, columns)."""
        y, x = (
            np.arange(span.start, span.stop, dtype=np.float32) + (0.5 - origin)
            for span, origin in zip(window, (self.y, self.x), strict=True)
        )
        y = y[:, None]
        area = self.a * self.d - self.b * self.c
        # The adjugate of [[a, b, 0], [c, d, 0], [p, q, 1]], which is its inverse times `area`.
        across, down = self.c * self.q - self.d * self.p, self.b * self.p - self.a * self.q
        depth: Field = across * x + (down * y + area)
        return Plane((self.d * x - self.b * y) / depth, (self.a * y - self.c * x) / depth, 1 / math.sqrt(abs(area)))


def _span(low: float, high: float, size: int) -> slice:
    start, stop = max(math.floor(low), 0), min(math.ceil(high), size)
    return slice(start, max(start, stop))
