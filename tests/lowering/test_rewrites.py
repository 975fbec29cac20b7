"""Every rewrite is exact, and does what it is for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloformer_deploy.architecture import VARIANTS, CloAttention, CloFormer, create_model
from cloformer_deploy.lowering import REWRITES, Rewrite, fold_batch_norm, fold_scales, lower

TOLERANCE = 1e-5


def random_model(variant: str, seed: int) -> CloFormer:
    """Weights as after training: statistics and affine parameters away from their initial 0 and 1."""
    torch.manual_seed(seed)
    model = create_model(variant, num_classes=5).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
    return model


@pytest.mark.parametrize("rewrite", [fold_batch_norm, fold_scales])
@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(sorted(VARIANTS)), st.integers(0, 2**31), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)
)
def test_a_rewrite_changes_nothing(rewrite: Rewrite, variant: str, seed: int, batch: int, rows: int, cols: int) -> None:
    model = random_model(variant, seed)
    image = torch.randn(batch, 3, 32 * rows, 32 * cols)
    with torch.inference_mode():
        before = model(image)
        rewrite(model)
        torch.testing.assert_close(model(image), before, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("target", REWRITES)
def test_lowering_leaves_the_original_alone(target: str) -> None:
    model = random_model("xxs", seed=1)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)
        lowered = lower(model, target)
        assert torch.equal(model(image), before)
        torch.testing.assert_close(lowered(image), before, rtol=0, atol=TOLERANCE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    assert {module.scale for module in lowered.modules() if isinstance(module, CloAttention)} == {1.0}
