"""Recipes: what becomes an integer, in how many bits, for which target.

A name says weights, activations, and what of the graph: `w8a8-mix` has 8-bit weights (one scale an output channel)
and 8-bit activations (one scale a tensor) in the operators that a CPU runs faster and no worse that way. Without `a`
only the stored weights are integers, and everything is computed in float; `p` is a palette of so many bits a tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CONVOLUTIONS = frozenset({"conv", "depthwise"})
MIX = CONVOLUTIONS | {"mul", "silu", "tanh", "concat"}
ALL = MIX | {"linear", "add", "sub", "gelu", "matmul", "softmax", "pool", "mean", "rsqrt"}

_STEM_ENDS = r"patch_embed\.(conv1|layernorm)"
"""A first convolution of 3 channels is no faster in integers, and normalized pixels are on no common grid; what the
stem normalizes carries the residual stream. Together they made a quarter of all error."""


@dataclass(frozen=True)
class Recipe:
    """What becomes an integer.

    Attributes:
        name: by the rule above.
        weight_bits: of each weight.
        activation_bits: of the tensors around each operator of `kinds`; None leaves activations float.
        kinds: the operators (`graph.KINDS`) that are computed in integers.
        everywhere: also inside the normalizations and the global attention.
        excluded_layers: patterns of module paths whose operators stay float.
        rounds_outputs: what these operators write is rounded too; else only what they read.
        palette: weights are looked up in a table of 2^weight_bits values a tensor, not scaled.
    """

    name: str
    weight_bits: int
    activation_bits: int | None = None
    kinds: frozenset[str] = frozenset()
    everywhere: bool = False
    excluded_layers: tuple[str, ...] = ()
    rounds_outputs: bool = True
    palette: bool = False

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of activations are part of it."""
        return self.activation_bits is not None


INT8 = "int8"
"""The precision that stands for a target's own recipe."""
_W8 = Recipe("w8", 8)
_NPU = {
    INT8: Recipe("w8a8-full", 8, 8, ALL, everywhere=True),
    "w8a16": Recipe("w8a16-full", 8, 16, ALL, everywhere=True),
}

RECIPES: Mapping[tuple[str, str], Mapping[str, Recipe]] = {
    ("onnx", "cpu"): {
        # ONNX Runtime's float depthwise kernels are faster than its integer ones, where the maps are large.
        INT8: Recipe("w8a8-mix", 8, 8, MIX, excluded_layers=(_STEM_ENDS, r"layers\.[01]\..*mlp\.dwconv")),
        "w8": _W8,
    },
    ("onnx", "hexagon"): _NPU,
    ("tflite", "cpu"): {INT8: Recipe("w8a8-mix", 8, 8, MIX, excluded_layers=(_STEM_ENDS,)), "w8": _W8},
    ("tflite", "ethos-u"): _NPU,
    ("coreml", "ane"): {
        # The Neural Engine computes in integers what reads integers; writing them too would cost 1 to 2 dB.
        INT8: Recipe("w8a8-conv", 8, 8, CONVOLUTIONS, excluded_layers=(_STEM_ENDS,), rounds_outputs=False),
        "w8": _W8,
        "p8": Recipe("p8", 8, palette=True),
        "p6": Recipe("p6", 6, palette=True),
    },
}
"""The recipes of each format and target, by the precision that asks for them."""
