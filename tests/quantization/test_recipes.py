"""The recipes are named by the rule, and every target has one of its own."""

import re

import pytest

from cloformer_deploy.backends.registry import BACKENDS, all_precisions
from cloformer_deploy.backends.target import FLOATS
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.recipes import ALL, CONVOLUTIONS, INT8, MIX, Recipe

EACH = [
    (item.name, target.name, precision, recipe)
    for item in BACKENDS.values()
    for target in item.targets.values()
    for precision, recipe in target.recipes.items()
]
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


def test_every_target_has_its_int8_and_rewrites_for_it() -> None:
    for item in BACKENDS.values():
        for name, target in item.targets.items():
            assert target.name == name
            assert target.rewrites
            assert target.integer_rewrites
            assert (target.recipes[INT8].weight_bits, target.recipes[INT8].activation_bits) == (8, 8)
            assert set(target.recipes) <= set(all_precisions()) - set(FLOATS)


def test_kinds_are_those_of_the_graph() -> None:
    known = {*graph.KINDS.values(), graph.DEPTHWISE} - {"layout"}
    assert CONVOLUTIONS < MIX < ALL == known
