"""Heads compute what was committed for them."""

import numpy as np
import pytest

from cloformer_deploy.networks.cloformer.architecture import HeadName
from tests.networks.cloformer.golden_heads import FILE, OUTPUTS, outputs

SHAPES = {"logits": (1, 5, 16, 24), "boxes": (1, 126, 4), "scores": (1, 126, 5)}


@pytest.mark.parametrize("head", OUTPUTS)
def test_golden_outputs(head: HeadName) -> None:
    stored = np.load(FILE)
    for name, values in outputs(head).items():
        assert values.shape == SHAPES[name]
        assert stored[name].std() > 0.1
        np.testing.assert_allclose(values, stored[name], rtol=0, atol=1e-5)
