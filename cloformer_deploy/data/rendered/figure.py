"""The result of a painter, an object of one class, and the result of drawing it."""

from collections.abc import Callable
from dataclasses import dataclass

from cloformer_deploy.data.rendered.placement import Window
from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Field, Stream


@dataclass(frozen=True)
class Figure:
    """A drawn object.

    Attributes:
        cover: share of each pixel that the object covers, 0..1, float32 (H, W).
        tone: share of the object's second color in each pixel, 0..1, float32 (H, W); the rest is its first color.
    """

    cover: Field
    tone: Field


@dataclass(frozen=True)
class Drawn:
    """The part of an image that something was drawn on.

    Attributes:
        window: rows and columns that contain it.
        cover: share of each pixel of the window that it covers, 0..1, float32.
    """

    window: Window
    cover: Field


Painter = Callable[[Plane, Stream], Figure]
"""Draws an object of its class on a plane, with random proportions."""
