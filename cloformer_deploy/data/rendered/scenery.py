"""What stands behind and before the object: 1/f noise and dead leaves, which have the statistics of photographs.

Dead leaves: D. L. Ruderman, "Origins of scaling in natural images", Vision Research 37 (1997); A. B. Lee,
D. Mumford, J. Huang, "Occlusion models for natural images", Int. J. Computer Vision 41 (2001).
"""

import math
from collections.abc import Sequence

import numpy as np

from cloformer_deploy.data.rendered.placement import Placement
from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Field, Stream
from cloformer_deploy.data.rendered.textures import texture

Colour = tuple[float, float, float]

_COARSEST = 7
_SMALLEST, _LARGEST = 6.0, 70.0
_TEXTURED_FROM = 14.0


def cloud(random: Stream, size: int) -> Field:
    """1/f noise, (size, size), of deviation about 0.8: white noise at each octave, and little less at the finer."""
    field = random.noise(_COARSEST, _COARSEST)
    strength = 1.0
    while len(field) < size:
        field = doubled(field)
        strength *= 0.83
        field += strength * random.noise(*field.shape)
    scaled: Field = field * 0.75
    return scaled


def doubled(field: Field) -> Field:
    """Twice as many rows and columns, linearly interpolated."""
    for _ in range(2):
        before = np.concatenate([field[:1], field[:-1]])
        after = np.concatenate([field[1:], field[-1:]])
        wide = np.empty((2 * len(field), field.shape[1]), np.float32)
        wide[0::2] = field * 0.75 + before * 0.25
        wide[1::2] = field * 0.75 + after * 0.25
        field = wide.T
    return np.ascontiguousarray(field)


def colour(random: Stream) -> Colour:
    """A colour as things have them: most of them dull, some strong."""
    grey = random.uniform(0.08, 0.85)
    strength = random.choice((0.08, 0.15, 0.3))
    red, green, blue = (grey + random.uniform(-strength, strength) for _ in range(3))
    return red, green, blue


def distance(a: Colour, b: Colour) -> float:
    """How far two colours are apart, brightness counting most."""
    red, green, blue = (x - y for x, y in zip(a, b, strict=True))
    brightness = 0.3 * red + 0.6 * green + 0.1 * blue
    return abs(brightness) + 0.25 * (abs(red - brightness) + abs(green - brightness) + abs(blue - brightness))


def background(random: Stream, palette: Sequence[Colour], roughness: Field) -> Field:
    """A canvas (3, size, size) of 1/f noise under dead leaves in a palette's colours."""
    size = len(roughness)
    canvas = np.empty((3, size, size), np.float32)
    contrast = random.uniform(0.06, 0.2)
    for channel, level in zip(canvas, random.choice(palette), strict=True):
        channel[:] = level + contrast * roughness
    for _ in range(random.whole(5, 60)):
        # Sizes fall off with their cube, as they do in photographs.
        half_side = _SMALLEST / math.sqrt(1 - random.uniform(0, 1) * (1 - (_SMALLEST / _LARGEST) ** 2))
        leaf(canvas, random, palette, roughness, (random.uniform(0, size), random.uniform(0, size)), half_side)
    return canvas


def leaf(
    canvas: Field,
    random: Stream,
    palette: Sequence[Colour],
    roughness: Field,
    place: tuple[float, float],
    half_side: float,
) -> None:
    """Paint one leaf, in place: an ellipse, oblong or triangle, plain or patterned, with a rough surface."""
    placement = Placement.at(*place, half_side, random.uniform(0, 1), random.uniform(0.6, 1.6))
    window = placement.window(len(roughness))
    plane = placement.plane(window)
    cover = plane.cover(_shape(plane, random))
    patterned = half_side > _TEXTURED_FROM and random.chance(0.5)
    tone = texture(plane, random) if patterned else np.zeros_like(plane.u)
    # The noise from another place, so that a leaf does not continue what it lies on.
    rough = roughness[::-1, ::-1][window] * (random.uniform(0.02, 0.12))
    first, second = random.choice(palette), random.choice(palette)
    for channel, low, high in zip(canvas[:, *window], first, second, strict=True):
        channel += cover * (tone * (high - low) + rough + (low - channel))


def _shape(plane: Plane, random: Stream) -> Field:
    kind = random.choice(("ellipse", "oblong", "triangle"))
    if kind == "ellipse":
        return plane.radius - 1
    if kind == "oblong":
        return plane.box(0, 0, 0.9, 0.9)
    # Three half-planes: cheaper than a polygon.
    triangle: Field = np.maximum(plane.v - 0.9, np.abs(plane.u) * 0.9 - plane.v * 0.45 - 0.4)
    return triangle
