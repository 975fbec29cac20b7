"""Blocks by name: the patterns that leave them float."""

import re

import pytest

from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.quantization.sensitivity import exclusion_pattern


@pytest.mark.parametrize(
    ("block", "inside", "outside"),
    [
        ("layers.2.blocks.1", ["layers.2.blocks.1", "layers.2.blocks.1.mlp.fc1"], ["layers.2.blocks.10", "layers.2"]),
        ("layers.2", ["layers.2"], ["layers.2.blocks.0", "layers.20"]),
        ("patch_embed", ["patch_embed.conv2.conv.0"], ["patch_embedding", "layers.0.patch_embed"]),
        ("head", ["head"], ["headless"]),
    ],
)
def test_patterns(block: str, inside: list[str], outside: list[str]) -> None:
    pattern = re.compile(exclusion_pattern(NETWORKS["cloformer"], block))
    assert all(pattern.search(path) for path in inside)
    assert not any(pattern.search(path) for path in outside)
