"""Background and foreground of the object: 1/f noise and "dead leaves", which have the statistics of photographs.

Dead leaves are random shapes that occlude one another: D. L. Ruderman, "Origins of scaling in natural images", Vision
Research 37 (1997); A. B. Lee, D. Mumford, J. Huang, "Occlusion models for natural images", Int. J. Computer Vision 41
(2001).
"""

import math
from collections.abc import Sequence

import numpy as np

from cloformer_deploy.data.rendered.figure import Drawn
from cloformer_deploy.data.rendered.placement import Placement
from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Field, Stream
from cloformer_deploy.data.rendered.textures import texture

Color = tuple[float, float, float]

OCTAVES = 5
"""Times that the coarsest octave of the noise is doubled: sides of images are multiples of 2 ** OCTAVES."""
_SMALLEST, _LARGEST = 6.0, 70.0  # half sides of leaves, pixels
_TEXTURED_FROM = 14.0  # half side of the smallest leaf that may have a texture, pixels


def cloud(random: Stream, height: int, width: int) -> Field:
    """Return 1/f noise, float32 (height, width), of standard deviation about 0.8.

    It is the sum of white noise at each octave, slightly weaker at finer ones.
    """
    field = random.noise(height >> OCTAVES, width >> OCTAVES)
    strength = 1.0
    for _ in range(OCTAVES):
        field = doubled(field)
        strength *= 0.83
        field += strength * random.noise(*field.shape)
    scaled: Field = field * 0.75
    return scaled


def doubled(field: Field) -> Field:
    """Return the field with twice as many rows and columns, linearly interpolated."""
    for _ in range(2):
        before = np.concatenate([field[:1], field[:-1]])
        after = np.concatenate([field[1:], field[-1:]])
        wide = np.empty((2 * len(field), field.shape[1]), np.float32)
        wide[0::2] = field * 0.75 + before * 0.25
        wide[1::2] = field * 0.75 + after * 0.25
        field = wide.T
    return np.ascontiguousarray(field)


def color(random: Stream) -> Color:
    """Return a random color, distributed like those of real objects: mostly dull, some strong."""
    gray = random.uniform(0.08, 0.85)
    strength = random.choice((0.08, 0.15, 0.3))
    red, green, blue = (gray + random.uniform(-strength, strength) for _ in range(3))
    return red, green, blue


def distance(a: Color, b: Color) -> float:
    """Return the distance of two colors, in which brightness counts most."""
    red, green, blue = (x - y for x, y in zip(a, b, strict=True))
    brightness = 0.3 * red + 0.6 * green + 0.1 * blue
    return abs(brightness) + 0.25 * (abs(red - brightness) + abs(green - brightness) + abs(blue - brightness))


def background(random: Stream, palette: Sequence[Color], roughness: Field) -> Field:
    """Return a canvas, float32 (3, *roughness.shape): 1/f noise under dead leaves in the colors of a palette."""
    height, width = roughness.shape
    canvas = np.empty((3, height, width), np.float32)
    contrast = random.uniform(0.06, 0.2)
    for channel, level in zip(canvas, random.choice(palette), strict=True):
        channel[:] = level + contrast * roughness
    for _ in range(random.whole(5, 60)):
        # The density of sizes falls with their cube, as in photographs.
        half_side = _SMALLEST / math.sqrt(1 - random.uniform(0, 1) * (1 - (_SMALLEST / _LARGEST) ** 2))
        leaf(canvas, random, palette, roughness, (random.uniform(0, width), random.uniform(0, height)), half_side)
    return canvas


def leaf(
    canvas: Field,
    random: Stream,
    palette: Sequence[Color],
    roughness: Field,
    place: tuple[float, float],
    half_side: float,
) -> Drawn:
    """Paint one leaf in place: an ellipse, rectangle or triangle, plain or textured, with a rough surface.

    Args:
        canvas: float32 (3, height, width).
        random: source of the leaf's shape, colors and texture.
        palette: colors to choose from.
        roughness: 1/f noise, (height, width).
        place: center of the leaf (column, row), pixels.
        half_side: half of the leaf's side before it is stretched, pixels.
    """
    placement = Placement.at(*place, half_side, random.uniform(0, 1), random.uniform(0.6, 1.6))
    window = placement.window(*roughness.shape)
    plane = placement.plane(window)
    cover = plane.cover(_shape(plane, random))
    patterned = half_side > _TEXTURED_FROM and random.chance(0.5)
    tone = texture(plane, random) if patterned else np.zeros_like(plane.u)
    # The noise is taken from another place, so that the leaf does not continue the surface behind it.
    rough = roughness[::-1, ::-1][window] * (random.uniform(0.02, 0.12))
    first, second = random.choice(palette), random.choice(palette)
    for channel, low, high in zip(canvas[:, *window], first, second, strict=True):
        channel += cover * (tone * (high - low) + rough + (low - channel))
    return Drawn(window, cover)


def _shape(plane: Plane, random: Stream) -> Field:
    kind = random.choice(("ellipse", "oblong", "triangle"))
    if kind == "ellipse":
        return plane.radius - 1
    if kind == "oblong":
        return plane.box(0, 0, 0.9, 0.9)
    # Three half-planes: cheaper than a polygon.
    triangle: Field = np.maximum(plane.v - 0.9, np.abs(plane.u) * 0.9 - plane.v * 0.45 - 0.4)
    return triangle
