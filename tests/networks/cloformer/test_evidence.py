"""Configurations that files hold are found, and files that contradict themselves are refused."""

from typing import Any

import pytest

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.cloformer.evidence import own_names, said

PUBLISHED = {
    "embed_dims": [32, 64, 128, 256],
    "group_splits": [[3, 1], [2, 2], [4, 4], [4, 12]],
    "window_sizes": [4, 4, 2, 1],
}


def modules(windows: list[int], heads: list[int]) -> dict[str, dict[str, Any]]:
    return {
        f"layers.{stage}.blocks.0.attn": {"window_size": window, "num_heads": count, "training": False}
        for stage, (window, count) in enumerate(zip(windows, heads, strict=True))
    }


def test_a_configuration_is_obeyed() -> None:
    assert said([("config.MODEL.cloformer", PUBLISHED)], {}) == PUBLISHED


@pytest.mark.parametrize(
    "entries",
    [
        {"depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},  # another network's
        {"window_sizes": 7},
        {"window_sizes": [7, 7]},
        {"num_classes": 10},
    ],
)
def test_options_of_other_things_say_nothing(entries: dict[str, Any]) -> None:
    assert said([("args", entries)], {}).get("window_sizes") is None


def test_a_saved_module_says_its_windows_and_heads() -> None:
    found = said([], modules([2, 2, 1, 1], [8, 8, 16, 32]))
    assert found == {"window_sizes": [2, 2, 1, 1], "num_heads": [8, 8, 16, 32]}
    incomplete = {name: value for name, value in modules([2, 2, 1, 1], [8] * 4).items() if ".3." not in name}
    assert said([], incomplete) == {}


def test_two_that_agree_are_one() -> None:
    assert said([("config", PUBLISHED), ("hyper_parameters", PUBLISHED)], {}) == PUBLISHED
    other = {**PUBLISHED, "window_sizes": [8, 4, 2, 1]}
    with pytest.raises(CheckpointError, match="two window_sizes") as caught:
        said([("config", PUBLISHED), ("hyper_parameters", other)], {})
    assert "at config" in caught.value.message
    assert "at hyper_parameters" in caught.value.message
    assert "--architecture" in caught.value.hint


@pytest.mark.parametrize("index", [0, 1])
def test_a_head_in_a_sequence_is_a_head(index: int) -> None:
    names = [f"head.{index}.weight", f"head.{index}.bias", "norm.weight"]
    assert list(own_names(names).values()) == ["head.weight", "head.bias", "norm.weight"]


def test_a_plain_head_and_none_are_left_alone() -> None:
    for names in (["head.weight", "head.bias"], ["norm.weight"]):
        assert own_names(names) == {name: name for name in names}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["head.0.weight", "head.2.weight"], "the head is an MLP (head.0, head.2)"),
        (["patch_embed.layernorm.weight", "patch_embed.layernorm.running_mean"], "the stem ends in a BatchNorm"),
    ],
)
def test_other_forms_are_refused_by_name(names: list[str], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        own_names(names)
    assert words in caught.value.message
    assert "not supported" in caught.value.hint
