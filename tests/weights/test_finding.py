"""The state dict is found wherever a training script put it, and what was chosen is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cloformer_deploy.weights.finding import configurations, state_dicts
from tests.tiny import TINY, as_trained, tiny_checkpoint
from tests.weights.weights_files import STEM, Weights, assert_same, load, refusal, safe, torch_zip


@pytest.fixture(scope="module")
def weights() -> Weights:
    return dict(tiny_checkpoint().state_dict)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def wrapped_blocks(weights: Weights) -> Weights:
    """Names as activation checkpointing makes them."""
    return {name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): value for name, value in weights.items()}


PLACES: dict[str, tuple[Callable[[Weights], Any], list[str]]] = {
    "top": (dict, []),
    "a number beside it": (lambda w: {**w, "epoch": 3}, ["1 entry of other parts left out"]),
    "wrapper": (lambda w: {"net": w, "epoch": 3}, ["the weights are those at net"]),
    "deeper": (lambda w: {"a": [{"b": {"weights": w}}]}, ["the weights are those at a.b.weights"]),
    "prefix": (lambda w: prefixed("model.backbone.", w), ["the prefix model.backbone. of their names is removed"]),
    "compiled": (
        lambda w: prefixed("_orig_mod.module.", w),
        ["the wrapper _orig_mod. in their names is removed", "the prefix module. of their names is removed"],
    ),
    "checkpointed": (wrapped_blocks, ["the wrapper _checkpoint_wrapped_module. in their names is removed"]),
    "counters": (
        lambda w: {**w, "total_ops": torch.zeros(1), "layers.0.total_params": torch.zeros(1)},
        ["2 counters of profilers or averages left out"],
    ),
    "torchvision's average": (
        lambda w: {
            "model": {k: v + 1 for k, v in w.items()},
            "model_ema": {"n_averaged": torch.tensor(1), **prefixed("module.", w)},
        },
        [
            "the weights are those at model_ema, a moving average",
            "the prefix module. of their names is removed",
            "1 counter of profilers or averages left out",
            "other weights of the same kind are not used: model",
        ],
    ),
    "a decoder beside it": (
        lambda w: {**prefixed("encoder.", w), "decoder.weight": torch.zeros(3)},
        ["the prefix encoder. of their names is removed", "1 entry of other parts left out"],
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_places(name: str, weights: Weights, tmp_path: Path) -> None:
    make, notes = PLACES[name]
    found = load(tmp_path, torch_zip(make(weights)))
    assert_same(found.state_dict, weights)
    assert list(found.notes) == notes


def test_safetensors_have_prefixes_too(weights: Weights, tmp_path: Path) -> None:
    assert_same(load(tmp_path, safe(prefixed("module.", weights))).state_dict, weights)


@pytest.mark.parametrize("key", ["ema", "model_ema", "state_dict_ema", "ema_state_dict", "averaged", "module_ema"])
def test_averages_are_preferred(key: str) -> None:
    first, *_ = state_dicts({"model": {STEM: torch.zeros(1)}, key: {STEM: torch.ones(1)}}, (STEM,))
    assert first.place == key
    assert first.averaged


@pytest.mark.parametrize("key", ["schema", "remap", "demand", "model"])
def test_other_names_are_no_averages(key: str) -> None:
    (found,) = state_dicts({key: {STEM: torch.zeros(1)}}, (STEM,))
    assert not found.averaged


def test_mmengine_s_state_dict_is_the_average() -> None:
    content = {
        "message_hub": {},
        "state_dict": {STEM: torch.zeros(1)},
        "ema_state_dict": {f"module.{STEM}": torch.ones(1)},
    }
    assert state_dicts(content, (STEM,))[0].place == "state_dict"


def test_a_whole_module_under_a_key(tmp_path: Path) -> None:
    model = as_trained(TINY, seed=0)
    found = load(tmp_path, torch_zip({"ema": model, "epoch": 1}))
    assert_same(found.state_dict, dict(model.state_dict()))
    assert "they are of a whole module, whose code is not run" in found.notes


def test_a_file_s_configuration_decides(weights: Weights, tmp_path: Path) -> None:
    windows = [2, 2, 1, 1]
    content = {"model": weights, "config": {"MODEL": {"cloformer": {"window_sizes": windows, "depths": [1, 1, 1, 1]}}}}
    found = load(tmp_path, torch_zip(content))
    assert found.architecture["window_sizes"] == windows
    assert [sentence.split()[0] for sentence in found.assumed] == ["num_heads"]
    wrong = {**content, "config": {"window_sizes": windows, "depths": [1, 1, 1, 2]}}
    assert "not those of the configuration" in refusal(tmp_path, torch_zip(wrong)).message


def test_configurations_are_found_anywhere() -> None:
    content = {"a": [{"hyper_parameters": {"window_sizes": (8, 4, 2, 1), "lr": 1}}], "depths": None}
    assert configurations(content, ("window_sizes", "depths")) == [
        ("a.hyper_parameters", {"window_sizes": [8, 4, 2, 1]})
    ]


def test_cycles_and_depth_are_bounded() -> None:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    deep: Any = {STEM: torch.zeros(1)}
    for _ in range(10_000):
        deep = [deep]
    assert state_dicts({"a": cyclic, "b": deep}, (STEM,)) == []
