"""The options that all formats have in common."""

from typing import TYPE_CHECKING, Self

from cloformer_deploy.system.schema import Strict

if TYPE_CHECKING:
    from cloformer_deploy.quantization.recipes import Recipe


class Options(Strict):
    """Options of a format, as a request states them. Every field has a default; None leaves the choice to each file."""

    def settled(self, recipe: "Recipe | None", *, wide: bool = False) -> Self:
        """Return the options of a file with this recipe (None: of floats): none is None.

        Args:
            recipe: of the file.
            wide: it has operators with the recipe's `excluded_bits`.
        """
        return self


class NoOptions(Options):
    """The options of a format without options."""
