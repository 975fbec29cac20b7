"""Alternatives change a tuning and nothing else, and only known ones are read from a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cloformer_deploy.backends.registry import BACKENDS, target_of
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.recipe_file import RecipeFile, read_recipe, write_recipe
from cloformer_deploy.lowering import lower
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer.lowering import REWRITES
from cloformer_deploy.quantization.alternatives import ATTENTION, INTEGERS, NORMALIZATION, Alternative
from cloformer_deploy.quantization.recipes import ALL
from cloformer_deploy.tune.choices import adds_integers, alternatives, changed
from tests.tiny import TINY, as_trained

TFLITE = target_of("tflite", "cpu")
OWN = TFLITE.tuning("int8")


@pytest.mark.parametrize("key", [("onnx", "cpu"), ("tflite", "cpu"), ("coreml", "ane"), ("tflite", "ethos-u")])
def test_the_targets_own_choices_are_the_target(key: tuple[str, str]) -> None:
    target = target_of(*key)
    for precision in ("fp32", "int8"):
        assert target.tuned(precision, target.tuning(precision)) == target
        assert target.tuned(precision, None) is target


def test_a_tuning_replaces_the_choices_of_its_precision_alone() -> None:
    tuning = Tuning(rewrites=("fold_scales",), kinds=("conv",), float_layers=())
    tuned = TFLITE.tuned("int8", tuning)
    assert tuned.integer_rewrites == ("fold_scales",)
    assert (tuned.recipes["int8"].kinds, tuned.recipes["int8"].excluded_layers) == (frozenset({"conv"}), ())
    assert (tuned.rewrites, tuned.recipes["w8"]) == (TFLITE.rewrites, TFLITE.recipes["w8"])
    assert TFLITE.tuned("fp32", tuning).rewrites == ("fold_scales",)


def test_of_a_group_there_is_at_most_one_rewrite() -> None:
    for item in alternatives(OWN, REWRITES):
        after = changed(OWN, item, REWRITES)
        assert after != OWN
        for group in (ATTENTION, NORMALIZATION):
            assert len(set(after.rewrites) & set(group)) <= 1
        if not item.group:
            assert sorted(map(sorted, _parts(changed(after, item, REWRITES)))) == sorted(map(sorted, _parts(OWN)))


@pytest.mark.parametrize("network", ["cloformer", "program"])
def test_targets_list_rewrites_in_the_order_of_the_network(network: str) -> None:
    order = list(NETWORKS[network].rewrites)
    for backend in BACKENDS.values():
        for target in backend.targets.values():
            for names in (target.rewrites, target.integer_rewrites):
                known = [name for name in names if name in order]
                assert known == sorted(known, key=order.index)


@pytest.mark.parametrize("key", [("onnx", "cpu"), ("tflite", "cpu"), ("coreml", "ane")])
def test_rewrites_of_every_alternative_can_be_applied_with_each_other(key: tuple[str, str]) -> None:
    # separate_branches does not know kernels that are split already
    own = target_of(*key).tuning("fp32")
    model = as_trained(TINY, seed=0)
    image = torch.rand(1, 3, 64, 64)
    known = [item for item in alternatives(own, REWRITES) if item.what == "rewrite"]
    assert len(known) > 8
    with torch.inference_mode():
        expected = model(image)
        for first, second in zip(known, (*known[1:], known[0]), strict=True):
            tuning = changed(changed(own, first, REWRITES), second, REWRITES)
            found = lower(model, [REWRITES[name] for name in tuning.rewrites])(image)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4, msg=f"{first.name}, {second.name}")


def test_an_alternative_is_named_by_what_it_makes_of_a_tuning() -> None:
    names = {item.name for item in alternatives(OWN, REWRITES)}
    assert {"tanh in float", "gelu in integers", "stem in integers", "gate-0 in float"} <= names
    assert {"no split_large_depthwise_kernels", "group_hidden_channels", "no attention rewrite"} <= names
    assert len(names) == len(list(alternatives(OWN, REWRITES)))


def test_what_the_target_keeps_in_float_is_tried_in_integers() -> None:
    names = {item.name for item in alternatives(target_of("onnx", "cpu").tuning("int8"), REWRITES)}
    assert {"stem in integers", "convffn-depthwise-0 in integers", "convffn-depthwise-1 in integers"} <= names
    assert {"convffn-depthwise-2 in float", "convffn-depthwise-3 in float"} <= names


def test_what_a_tuning_has_already_is_no_alternative() -> None:
    names = [item.name for item in alternatives(OWN, REWRITES)]
    assert not {"attend_few_keys_first", "normalize_in_two_steps"} & set(names)


def _parts(tuning: Tuning) -> tuple[tuple[str, ...], ...]:
    return tuning.rewrites, tuning.kinds, tuning.float_layers


def test_float_precisions_have_rewrites_alone() -> None:
    found = list(alternatives(TFLITE.tuning("fp32"), REWRITES))
    assert {item.what for item in found} == {"rewrite"}
    assert all(item.what == "rewrite" for item in alternatives(TFLITE.tuning("w8"), REWRITES) if not OWN.kinds)
    assert not any(name in item.names for item in alternatives(OWN, ()) for name in REWRITES)


def test_every_alternative_is_of_a_known_kind() -> None:
    assert {name for item in INTEGERS if item.what == "kind" for name in item.names} <= ALL
    assert {*ATTENTION, *NORMALIZATION} <= set(REWRITES)


def test_more_integers_are_told() -> None:
    assert adds_integers(OWN, changed(OWN, Alternative("gelu", "kind", ("gelu",)), REWRITES))
    assert not adds_integers(OWN, changed(OWN, Alternative("tanh", "kind", ("tanh",)), REWRITES))
    assert adds_integers(OWN, changed(OWN, Alternative("stem", "float_layers", ("stem",)), REWRITES))
    assert not adds_integers(OWN, changed(OWN, Alternative("gate", "float_layers", ("gate-0",)), REWRITES))
    assert not adds_integers(OWN, OWN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"float_layers": ["(a+)+$"]}, "unknown pattern of layers: '(a+)+$'"),
        ({"rewrites": ["os.system"]}, "unknown rewrite: 'os.system'"),
        ({"kinds": ["lstm"]}, "unknown kind of operator: 'lstm'"),
    ],
)
def test_a_recipe_can_name_known_choices_only(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "recipe.json"
    tuned = changed(OWN, next(iter(alternatives(OWN, REWRITES))), REWRITES)
    recipe = RecipeFile(weights_sha256="0" * 64, format="tflite", target="cpu", precision="int8", tuning=tuned)
    write_recipe(path, recipe)
    assert read_recipe(path) == recipe
    content = json.loads(path.read_text())
    content["tuning"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(RequestError) as refused:
        read_recipe(path)
    assert said in refused.value.message
