"""Simulates a camera: exposure, blur, sensor noise and JPEG compression."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.rendered.randomness import Field, Stream, on_grid

_LEVELS = 1024  # entries of the table of the tone curve


@dataclass(frozen=True)
class Photograph:
    """The image that the camera made of a canvas.

    Attributes:
        pixels: RGB, uint8, (H, W, 3).
        moved: rows and columns by which motion blur shifted the image, on average, rounded towards zero; rows and
            columns that were shifted out on one side came in on the other.
    """

    pixels: NDArray[np.uint8]
    moved: tuple[int, int]


def photograph(canvas: Field, random: Stream) -> Photograph:
    """Return the photograph of a canvas.

    Args:
        canvas: light of each channel, float32 (3, H, W), 1 being white paper; overwritten.
        random: source of the camera's settings and noise.
    """
    _light(canvas, random)
    canvas, moved = _blurred(canvas, random)
    canvas = _developed(canvas, random)
    _add_noise(canvas, random)
    pixels = (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return Photograph(_compressed(np.ascontiguousarray(pixels.transpose(1, 2, 0)), random), moved)


def _light(canvas: Field, random: Stream) -> None:
    """Apply a random brightness gradient, exposure and tint, in place."""
    row, column = (np.arange(side, dtype=np.float32) * (2 / side) - 1 for side in canvas.shape[1:])
    slope_x, slope_y = random.uniform(-0.3, 0.3), random.uniform(-0.3, 0.3)
    exposure = random.uniform(0.65, 1.25)
    for channel in canvas:
        tint = exposure * random.uniform(0.92, 1.08)
        channel *= (column * slope_x + 1) * ((row * slope_y + 1) * tint)[:, None]


def _blurred(canvas: Field, random: Stream) -> tuple[Field, tuple[int, int]]:
    """Return the canvas and its shift (`Photograph.moved`).

    The canvas is sharp, out of focus (n 1-2-1 filters: deviation sqrt(n / 2) pixels) or has motion blur.
    """
    shift = (0, 0)
    kind = random.choice(("sharp", "sharp", "focus", "focus", "moved"))
    if kind == "focus":
        for _ in range(random.choice((1, 1, 2, 4))):
            canvas = _smoothed(canvas)
    elif kind == "moved":
        step = random.choice(((0, 1), (1, 0), (1, 1), (1, -1)))
        count = random.whole(2, 5)
        moved = [np.roll(canvas, (step[0] * i, step[1] * i), axis=(1, 2)) for i in range(count)]
        total = moved[0]
        for copy in moved[1:]:
            total = total + copy
        canvas = total * (1 / count)
        shift = step[0] * ((count - 1) // 2), step[1] * ((count - 1) // 2)
    return canvas, shift


def _smoothed(canvas: Field) -> Field:
    padded = np.pad(canvas, ((0, 0), (1, 1), (0, 0)), mode="edge")
    canvas = (padded[:, :-2] + padded[:, 2:]) * 0.25 + canvas * 0.5
    padded = np.pad(canvas, ((0, 0), (0, 0), (1, 1)), mode="edge")
    smooth: Field = (padded[..., :-2] + padded[..., 2:]) * 0.25 + canvas * 0.5
    return smooth


def _developed(canvas: Field, random: Stream) -> Field:
    """Return the canvas with a random gamma and contrast, looked up in a table of `_LEVELS` values."""
    gamma, contrast = random.uniform(0.75, 1.3), random.uniform(0.75, 1.1)
    curve = [0.5 + contrast * ((level / (_LEVELS - 1)) ** gamma - 0.5) for level in range(_LEVELS)]
    table = np.array([on_grid(value) for value in curve], np.float32)
    levels = (canvas * (_LEVELS - 1)).clip(0, _LEVELS - 1).astype(np.int32)
    developed: Field = table[levels]
    return developed


def _add_noise(canvas: Field, random: Stream) -> None:
    """Add sensor noise, stronger where there is more light, in place."""
    strength = random.choice((0.0, 0.01, 0.02, 0.04, 0.06))
    if strength:
        canvas += random.noise(*canvas.shape) * (canvas * (strength * 0.6) + (strength * 0.6))


def _compressed(pixels: NDArray[np.uint8], random: Stream) -> NDArray[np.uint8]:
    """Return the pixels after JPEG compression of random quality; one image in five is not compressed."""
    if random.chance(0.2):
        return pixels
    with io.BytesIO() as file:
        subsampling = random.choice(("4:4:4", "4:2:0"))
        Image.fromarray(pixels).save(file, "JPEG", quality=random.whole(30, 95), subsampling=subsampling)
        with Image.open(file, formats=("JPEG",)) as image:
            return np.array(image)
