"""Targets: the hardware that a graph is lowered for, with the rewrites it wants and its quantization recipes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from cloformer_deploy.quantization.recipes import Recipe

if TYPE_CHECKING:
    from cloformer_deploy.backends.tuning import Tuning

FLOATS = ("fp32", "fp16")
"""Precisions that every target has."""
FOLDS = ("fold_batch_norm", "fold_scales", "fold_group_norm_affine")
"""Rewrites that every target begins with: what can be folded is folded into weights."""


class ArtifactKey(NamedTuple):
    """The kind of an artifact. A bundle has at most one artifact of each kind."""

    format: str
    precision: str
    target: str


@dataclass(frozen=True)
class Target:
    """Hardware that a format's graph can be lowered for.

    Attributes:
        name: such as cpu, ane, hexagon.
        rewrites: names of the exact rewrites it wants, in order; a network supplies those that it has.
        integer_rewrites: the same for graphs whose convolutions are computed in integers.
        recipes: quantization recipes by precision.
    """

    name: str
    rewrites: tuple[str, ...]
    integer_rewrites: tuple[str, ...]
    recipes: Mapping[str, Recipe]

    @property
    def precisions(self) -> tuple[str, ...]:
        """Return every precision that it offers."""
        return (*FLOATS, *self.recipes)

    def tuning(self, precision: str) -> "Tuning":
        """Return the target's own choices for a precision."""
        from cloformer_deploy.backends.tuning import Tuning

        if precision not in self.recipes:
            return Tuning(rewrites=self.rewrites)
        recipe = self.recipes[precision]
        return Tuning(
            rewrites=self.integer_rewrites, kinds=tuple(sorted(recipe.kinds)), float_layers=recipe.excluded_layers
        )

    def tuned(self, precision: str, tuning: "Tuning | None") -> Self:
        """Return a copy with these choices for a precision; the target itself for None."""
        if tuning is None:
            return self
        if precision not in self.recipes:
            return replace(self, rewrites=tuning.rewrites)
        recipe = replace(self.recipes[precision], kinds=frozenset(tuning.kinds), excluded_layers=tuning.float_layers)
        return replace(self, integer_rewrites=tuning.rewrites, recipes={**self.recipes, precision: recipe})

    def calibrated(self, precision: str) -> bool:
        """Tell whether files of a precision need a calibration set."""
        recipe = self.recipes.get(precision)
        return recipe is not None and recipe.needs_calibration
