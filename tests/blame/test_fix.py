"""Test the parts of the model that a fix may keep in float."""

import re

import pytest

from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.quantization.sensitivity import exclusion_pattern

CLOFORMER = NETWORKS["cloformer"]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("layers.2.blocks.5.mlp.dwconv", "layers.2.blocks.5.mlp"),
        ("layers.2.blocks.5.attn", "layers.2.blocks.5.attn"),
        ("layers.0.blocks.1.downsample.0", "layers.0.blocks.1.downsample"),
        ("layers.0.blocks.1", "layers.0.blocks.1$"),
        ("layers.0", "layers.0"),
        ("patch_embed.conv1.conv.0", "patch_embed"),
        ("head", "head"),
    ],
)
def test_the_part_of_a_layer_holds_it(path: str, part: str) -> None:
    assert CLOFORMER.part_of(path) == part
    assert re.search(exclusion_pattern(CLOFORMER, part), path)


def test_the_part_of_a_block_s_own_operators_holds_no_other() -> None:
    pattern = exclusion_pattern(CLOFORMER, "layers.0.blocks.1$")
    assert not re.search(pattern, "layers.0.blocks.1.mlp")
    assert not re.search(pattern, "layers.0.blocks.10")
