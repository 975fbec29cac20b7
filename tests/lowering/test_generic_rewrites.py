"""Rewrites that any network can use, on networks that are no CloFormer: exact, in place, and refused where unfit."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cloformer_deploy.lowering import lower
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.lowering.convolutions import by_input_channels, by_output_channels
from cloformer_deploy.lowering.depthwise import MAX_TAPS, RowSplitConv, split_large_depthwise_kernels
from cloformer_deploy.lowering.normalization import (
    LONGEST_SUM,
    Form,
    PooledNorm,
    TwoStepNorm,
    replace_group_norms,
    spatial_mean,
)

SEEDS = st.integers(0, 2**31)
TOLERANCE = 1e-5


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.booleans())
def test_batch_norm_is_folded_into_the_convolution_before_it(seed: int, bias: bool) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1)).eval()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_(std=0.5)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        before = model(noise(2, 3, 8, 8))
        fold_batch_norm(model)
        torch.testing.assert_close(model(noise(2, 3, 8, 8)), before, rtol=0, atol=TOLERANCE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_batch_norm_behind_anything_else_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.BatchNorm2d(6)).eval()
    fold_batch_norm(model)
    assert isinstance(model[2], nn.BatchNorm2d)


def test_lowering_rewrites_a_copy_in_evaluation_mode_in_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Dropout(0.5)).train()
    seen = []
    lowered = lower(model, [lambda copy: seen.append(copy), fold_batch_norm, lambda copy: seen.append(copy)])
    assert seen == [lowered, lowered]
    assert isinstance(lowered[1], nn.Identity)
    assert isinstance(model[1], nn.BatchNorm2d)
    assert (lowered.training, model.training) == (False, True)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 5, 7, 9, 11]), st.sampled_from([1, 3, 7, 9]), st.booleans())
def test_large_depthwise_kernels_are_split_by_rows(seed: int, rows: int, columns: int, bias: bool) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 4, (rows, columns), padding=(rows // 2, columns // 2), groups=4, bias=bias)
    model = nn.Sequential(conv)
    image = noise(2, 4, 6, 10)
    with torch.no_grad():
        before = model(image)
        split_large_depthwise_kernels(model)
        torch.testing.assert_close(model(image), before, rtol=0, atol=TOLERANCE)
    assert isinstance(model[0], RowSplitConv) is (rows * columns > MAX_TAPS)


def test_dense_convolutions_of_any_size_stay() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 9, padding=4))
    split_large_depthwise_kernels(model)
    assert isinstance(model[0], nn.Conv2d)


@pytest.mark.parametrize("groups", [1, 6])
def test_output_channels_are_split(groups: int) -> None:
    conv = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=groups)
    image = noise(2, 6, 8, 8)
    parts = by_output_channels(conv, [1, 2, 3])
    given = torch.split(image, [1, 2, 3], dim=1) if groups > 1 else [image] * 3
    with torch.no_grad():
        found = torch.cat([part(each) for part, each in zip(parts, given, strict=True)], dim=1)
        torch.testing.assert_close(found, conv(image), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("bias", [True, False])
def test_input_channels_are_split(bias: bool) -> None:
    conv = nn.Conv2d(6, 5, 1, bias=bias)
    image = noise(2, 6, 8, 8)
    parts = by_input_channels(conv, [1, 2, 3])
    with torch.no_grad():
        found = sum(part(each) for part, each in zip(parts, torch.split(image, [1, 2, 3], dim=1), strict=True))
        torch.testing.assert_close(found, conv(image), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("side", [4, 80])
def test_two_steps_normalize_as_group_norm_does(form: Form, side: int) -> None:
    assert (side**2 > LONGEST_SUM) is (side == 80)
    norm = nn.GroupNorm(1, 3, affine=False)
    image = 5 + 3 * noise(2, 3, side, side)
    expected = norm(image)
    torch.testing.assert_close(TwoStepNorm(norm.eps, form)(image), expected, rtol=0, atol=1e-4)
    pooled = PooledNorm(norm.eps, form)(image)
    torch.testing.assert_close(pooled, spatial_mean(expected), rtol=0, atol=1e-4)
    torch.testing.assert_close(spatial_mean(image), image.mean(dim=(2, 3), keepdim=True), rtol=0, atol=1e-4)


def test_group_norms_are_replaced_wherever_they_are() -> None:
    model = nn.ModuleDict({"inner": nn.Sequential(nn.GroupNorm(1, 3, eps=1e-3, affine=False))})
    replace_group_norms(model, "float16")
    (norm,) = model["inner"].children()
    assert isinstance(norm, TwoStepNorm)
    assert (norm.eps, norm.form) == (1e-3, "float16")


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.GroupNorm(2, 4, affine=False)], ids=["affine", "groups"])
def test_group_norms_that_cannot_be_replaced_are_refused(norm: nn.GroupNorm) -> None:
    with pytest.raises(ValueError, match="has parameters, or more than one group"):
        replace_group_norms(nn.Sequential(norm), "reciprocal_root")
