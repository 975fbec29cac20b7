"""Probe pictures: made from a seed, with the smooth-to-fine spectrum of photographs.

They show whether a file runs and how far its numbers are from PyTorch's. They have no labels and say
nothing about accuracy.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def probe_pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """RGB noise whose amplitude halves with each octave: uint8, (count, 3, height, width)."""
    rng = np.random.default_rng(seed)
    return np.stack([_picture(rng, height, width) for _ in range(count)])


def _picture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    total = np.zeros((3, height, width), np.float32)
    for octave in range(7):
        coarse = rng.standard_normal((3, 2**octave + 1, 2**octave + 1)).astype(np.float32)
        layers = [Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC) for c in coarse]
        total += 0.5**octave * np.stack([np.asarray(layer) for layer in layers])
    pixels: NDArray[np.uint8] = (128 + 48 * total).clip(0, 255).astype(np.uint8)
    return pixels
