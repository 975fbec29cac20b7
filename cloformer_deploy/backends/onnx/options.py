"""Options of ONNX files."""

from typing import TYPE_CHECKING, Self

from pydantic import field_validator

from cloformer_deploy.backends.options import Options

if TYPE_CHECKING:
    from cloformer_deploy.quantization.recipes import Recipe

OPSETS = (17, 18, 19, 20, 21)
EXPORTED_OPSET = 20
"""The opset that graphs are exported in: the first with a native Gelu. In opset 21 the exporter writes normalizations
as GroupNormalization, which has no CPU kernel in ONNX Runtime."""
OPSET_OF_16_BITS = 21
"""The first whose QuantizeLinear knows uint16."""


class OnnxOptions(Options):
    """Options of an ONNX file.

    Attributes:
        opset: version of the operator set; None is the oldest of `EXPORTED_OPSET` and later that can say the file.
    """

    opset: int | None = None

    @field_validator("opset")
    @classmethod
    def _known(cls, opset: int | None) -> int | None:
        if opset is not None and opset not in OPSETS:
            raise ValueError(f"files can be written in ONNX opset {', '.join(map(str, OPSETS))}")
        return opset

    def settled(self, recipe: "Recipe | None", *, wide: bool = False) -> Self:
        """See `Options.settled`."""
        return self.model_copy(update={"opset": self.opset or max(EXPORTED_OPSET, lowest_opset(recipe, wide=wide))})


def lowest_opset(recipe: "Recipe | None", *, wide: bool = False) -> int:
    """Return the first opset that has the integers of a recipe (None: floats), with or without `excluded_bits`."""
    if recipe is None:
        return OPSETS[0]
    return OPSET_OF_16_BITS if 16 in (recipe.activation_bits, recipe.excluded_bits if wide else None) else OPSETS[0]
