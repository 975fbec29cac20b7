"""What a class's painter gives."""

from collections.abc import Callable
from dataclasses import dataclass

from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Field, Stream


@dataclass(frozen=True)
class Figure:
    """A drawn object: how much of each pixel it covers, and the share of its second colour there; 0..1, (H, W)."""

    cover: Field
    tone: Field


Painter = Callable[[Plane, Stream], Figure]
"""Draws one object of its class, with proportions of its own."""
