"""Quantization recipes: which operators are computed in integers, and in how many bits.

Recipes are named by a rule: `w8a8-mix` has 8-bit weights (per-channel scales) and 8-bit activations (per-tensor scales)
in the operators that a CPU runs faster and as accurately that way. Without `a` only the stored weights are integers,
and everything is computed in float; `p` is a palette of 2^bits values per tensor. A target lists the recipes it offers
(`backends.target.Target`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

CONVOLUTIONS = frozenset({"conv", "depthwise"})
MIX = CONVOLUTIONS | {"mul", "silu", "tanh", "concat", "resize"}
ALL = MIX | {
    "linear",
    "add",
    "sub",
    "gelu",
    "matmul",
    "softmax",
    "pool",
    "mean",
    "rsqrt",
    "sqrt",
    "div",
    "sigmoid",
    "clip",
    "relu",
}

STEM_ENDS = r"patch_embed\.(conv1|layernorm)"
"""Layers of the stem that stay float. A first convolution of 3 channels is no faster in integers, and the stem's
normalization feeds the residual stream. Together they caused a quarter of all quantization error."""


PREDICTIONS = r"^detect$|^detect\.(scores|distances)\.\d+\.1$"
"""Last convolutions of a detector, and the decoding of its boxes, which stay out of 8 bits: one step is a pixel of an
image of 256, and detectors in plain 8 bits lose 3 to 10 points of average precision."""


@dataclass(frozen=True)
class Recipe:
    """The choice of weights and operators that become integers.

    Attributes:
        name: by the rule of this module.
        weight_bits: bits of each weight.
        activation_bits: bits of the tensors around each operator of `kinds`; None leaves activations float.
        kinds: kinds of operators (`graph.KINDS`) that are computed in integers.
        everywhere: include operators inside the normalizations and the global attention.
        excluded_layers: patterns of module paths whose operators stay float, or have `excluded_bits`.
        excluded_kinds: kinds of operators, out of `kinds`, that are treated like those of excluded layers.
        excluded_bits: bits of the tensors around excluded operators, for hardware without floats; None leaves them
            float.
        rounds_outputs: round the outputs of these operators too, not only their inputs.
        palette: store weights as indices into a table of 2^weight_bits values per tensor.
    """

    name: str
    weight_bits: int
    activation_bits: int | None = None
    kinds: frozenset[str] = frozenset()
    everywhere: bool = False
    excluded_layers: tuple[str, ...] = ()
    excluded_kinds: frozenset[str] = frozenset()
    excluded_bits: int | None = None
    rounds_outputs: bool = True
    palette: bool = False

    @property
    def everything(self) -> "Recipe":
        """Return this recipe without exclusions."""
        return replace(self, excluded_layers=(), excluded_kinds=frozenset())

    @property
    def outside(self) -> str:
        """Return what excluded layers compute in, in prose."""
        return "float" if self.excluded_bits is None else f"{self.excluded_bits} bits"

    @property
    def needs_calibration(self) -> bool:
        """Tell whether activations become integers, whose ranges are measured on a calibration set."""
        return self.activation_bits is not None


INT8 = "int8"
"""The precision that selects a target's own 8-bit recipe."""
W8 = Recipe("w8", 8)
NPU: Mapping[str, Recipe] = {
    INT8: Recipe("w8a8-full", 8, 8, ALL, everywhere=True),
    "w8a16": Recipe("w8a16-full", 8, 16, ALL, everywhere=True),
}
"""Recipes for hardware without floats."""
MIXED_NPU: Mapping[str, Recipe] = {**NPU, INT8: replace(NPU[INT8], excluded_layers=(PREDICTIONS,), excluded_bits=16)}
"""Recipes for hardware that computes in 8 and in 16 bits, operator by operator."""
