"""The recipes are named by the rule, and every target has one of its own."""

import re

import pytest

from cloformer_deploy.backends.registry import FLOATS, FORMATS, PRECISIONS
from cloformer_deploy.lowering import INTEGER_LOWERINGS, LOWERINGS
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.recipes import ALL, CONVOLUTIONS, INT8, MIX, RECIPES, Recipe

EACH = [(*key, precision, recipe) for key, recipes in RECIPES.items() for precision, recipe in recipes.items()]
GRAPHS = {"conv": CONVOLUTIONS, "mix": MIX, "full": ALL}
NAME = re.compile(r"p(?P<palette>\d+)|w(?P<weights>\d+)(a(?P<activations>\d+)-(?P<graph>conv|mix|full))?")


@pytest.mark.parametrize(("format_name", "target", "precision", "recipe"), EACH)
def test_a_name_says_what_becomes_an_integer(format_name: str, target: str, precision: str, recipe: Recipe) -> None:
    said = NAME.fullmatch(recipe.name)
    assert said is not None
    assert recipe.weight_bits == int(said["palette"] or said["weights"])
    assert recipe.palette == bool(said["palette"])
    assert recipe.activation_bits == (int(said["activations"]) if said["activations"] else None)
    assert recipe.needs_calibration == (said["graph"] is not None)
    assert recipe.kinds == GRAPHS.get(said["graph"], frozenset())
    assert recipe.everywhere == (said["graph"] == "full")
    assert precision in (INT8, recipe.name.partition("-")[0])


def test_every_target_has_its_int8_and_a_lowering_for_it() -> None:
    assert set(RECIPES) == set(LOWERINGS) == set(INTEGER_LOWERINGS)
    assert set(RECIPES) == {(name, target) for name, item in FORMATS.items() for target in item.targets}
    for recipes in RECIPES.values():
        assert (recipes[INT8].weight_bits, recipes[INT8].activation_bits) == (8, 8)
        assert set(recipes) <= set(PRECISIONS) - set(FLOATS)


def test_kinds_are_those_of_the_graph() -> None:
    known = {*graph.KINDS.values(), graph.DEPTHWISE} - {"layout", "relu"}
    assert CONVOLUTIONS < MIX < ALL == known
