"""Recipes: what becomes an integer, in how many bits, for which target.

A name says weights, activations and what of the graph: `w8a8-conv` has 8-bit weights (one scale a channel) and 8-bit
activations (one scale a tensor) in convolutions; without `a`, only the stored weights are integers, and everything is computed
in float; `p` is a palette of that many bits. `int8` stands for the target's own recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CONVOLUTIONS = frozenset({"conv", "depthwise"})


@dataclass(frozen=True)
class Recipe:
    """What becomes an integer.

    Attributes:
        name: by the rule above.
        weight_bits: of each weight.
        activation_bits: of the tensors around each operator of `kinds`; None leaves activations float.
        kinds: the operators (`graph.KINDS`) that are computed in integers.
        everywhere: also inside normalisations and the global attention.
        weights: `linear` is one scale a channel, `palette` a table of 2^weight_bits values a tensor.
    """

    name: str
    weight_bits: int
    activation_bits: int | None = None
    kinds: frozenset[str] = frozenset()
    everywhere: bool = False
    weights: Literal["linear", "palette"] = "linear"

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of activations are part of it."""
        return self.activation_bits is not None
