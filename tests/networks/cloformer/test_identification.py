"""Configurations are read off the shapes of a state dict, and what shapes do not show is said or named as assumed."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.cloformer import CUSTOM, VARIANTS, Architecture, configured
from cloformer_deploy.networks.cloformer.identification import identified, shapes_of
from tests.tiny import TINY

KERNELS = st.sampled_from([1, 3, 5, 7])


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Configurations whose heads are 16 channels wide, as identification assumes where nothing is said."""
    splits, kernels = [], []
    for _ in range(4):
        local = draw(st.lists(st.integers(1, 3), max_size=2))
        whole = draw(st.integers(0 if local else 1, 3))
        splits.append((*local, whole))
        kernels.append(tuple(draw(KERNELS) for _ in local))
    return configured(
        tuple(16 * sum(split) for split in splits),
        tuple(splits),
        kernel_sizes=tuple(kernels),
        depths=tuple(draw(st.integers(1, 3)) for _ in range(4)),
        mlp_kernel_sizes=tuple(draw(KERNELS) for _ in range(4)),
        mlp_ratios=tuple(draw(st.sampled_from([1, 2, 4, 5, 2.5])) for _ in range(4)),
        qkv_bias=draw(st.booleans()),
        num_classes=draw(st.integers(1, 1200)),
    )


@pytest.mark.integration
@settings(max_examples=40, deadline=None)
@given(architectures())
def test_the_shapes_show_the_configuration(architecture: Architecture) -> None:
    found = identified(shapes_of(architecture), "linear", None, None)
    assert found is not None
    assert found[0] == architecture
    assert found[1]


def test_what_is_said_is_obeyed() -> None:
    windows = [2, 2, 1, 1]
    found = identified(shapes_of(VARIANTS["xxs"]), "linear", None, {"window_sizes": windows})
    assert found is not None
    assert found[0] == replace(VARIANTS["xxs"], window_sizes=tuple(windows))
    assert found[0].variant == CUSTOM
    assert found[1] == ["num_heads [4, 4, 8, 16]"]


def test_heads_are_said_by_their_groups() -> None:
    doubled = [[2 * heads for heads in split] for split in VARIANTS["xxs"].group_splits]
    found = identified(
        shapes_of(VARIANTS["xxs"]), "linear", None, {"group_splits": doubled, "window_sizes": [8, 4, 2, 1]}
    )
    assert found is not None
    assert found[0].num_heads == (8, 8, 16, 32)
    assert found[1] == []


def test_the_name_of_a_published_configuration_says_all() -> None:
    assert identified(shapes_of(VARIANTS["s"]), "linear", None, "s") == (VARIANTS["s"], [])
    with pytest.raises(CheckpointError, match=r"not those of the configuration that is given|has shape"):
        identified(shapes_of(VARIANTS["s"]), "linear", None, "xs")


def test_another_text_says_nothing() -> None:
    found = identified(shapes_of(TINY), "linear", None, "large")
    assert found is not None
    assert found[0].variant == CUSTOM
    assert len(found[1]) == 2


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"depths": [2, 2, 6, 3]}, "not those of the configuration that is given: missing"),
        ({"mlp_ratios": [4, 4, 4, 3]}, "has shape"),
        ({"num_heads": [4, 4, 8]}, "num_heads has 3 entries for 4 stages"),
        ({"num_heads": [4, 4, 8, 15]}, "do not sum to the 15 heads of stage 4"),
        ({"window_sizes": [8, 4, 2, 0]}, "window_sizes.3"),
        ({"window_sizes": [7, 4, 2, 1]}, "window_sizes 7 of stage 1 does not divide the side of its feature map"),
        ({"window_sizes": [8, 4, 2, 2]}, "window_sizes 2 of stage 4 does not divide the side of its feature map"),
        ({"window_sizes": [8, 4, 2, "1"]}, "window_sizes.3"),
        ({"kernel_sizes": [[4], [5], [7], [9]]}, "the kernel size 4 of stage 1 is even"),
        ({"num_classes": 12}, "has shape"),
        ({"depth": 3}, "depth: Unexpected keyword argument"),
    ],
)
def test_what_is_said_must_fit(said: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words.replace("[", r"\[")):
        identified(shapes_of(VARIANTS["xxs"]), "linear", None, said)


def test_a_variant_that_is_asked_for_is_not_a_custom_one() -> None:
    assert identified(shapes_of(TINY), "linear", CUSTOM, TINY.as_json()) == (TINY, [])
    with pytest.raises(CheckpointError, match="these are custom weights, not xxs") as caught:
        identified(shapes_of(TINY), "linear", "xxs", TINY.as_json())
    assert "--variant custom" in caught.value.hint
