"""Every rewrite is exact over random weights, configurations and sizes, and does what it is for."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.backends.target import Target
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.lowering.depthwise import MAX_TAPS, RowSplitConv, split_large_depthwise_kernels
from cloformer_deploy.networks.base import Rewrite
from cloformer_deploy.networks.cloformer import VARIANTS, Architecture, CloAttention, configured
from cloformer_deploy.networks.cloformer.attention import GlobalAttention
from cloformer_deploy.networks.cloformer.body import ConvFFN
from cloformer_deploy.networks.cloformer.lowering import REWRITES
from cloformer_deploy.networks.cloformer.lowering.affine import fold_group_norm_affine
from cloformer_deploy.networks.cloformer.lowering.attention import (
    BLOCK_LOGITS,
    BlockwiseAttention,
    attend_few_keys_first,
    attend_head_by_head,
    attend_in_blocks,
    attend_keys_first,
)
from cloformer_deploy.networks.cloformer.lowering.branches import BranchSumBlock, separate_branches
from cloformer_deploy.networks.cloformer.lowering.hidden_groups import (
    MAX_CHANNELS,
    GroupedConvFFN,
    group_hidden_channels,
)
from cloformer_deploy.networks.cloformer.lowering.normalization import (
    normalize_axis_by_axis,
    normalize_by_division,
    normalize_in_float16,
    normalize_in_two_steps,
)
from cloformer_deploy.networks.cloformer.lowering.residual_stream import SHRINK, shrink_residual_stream
from cloformer_deploy.networks.cloformer.lowering.scales import fold_scales
from tests.tiny import TINY, as_trained

pytestmark = pytest.mark.integration

TOLERANCE = 1e-5
SMALL = (
    configured((16, 24, 32, 48), ((3, 1), (2, 2), (2, 2), (1, 3)), depths=(1, 1, 2, 1)),
    configured(
        (24, 12, 24, 40),
        ((1, 1, 1), (1, 0, 2), (2, 1, 1), (1, 1, 2)),
        kernel_sizes=((3, 5), (5, 7), (7, 3), (9, 5)),
        depths=(1, 1, 1, 2),
        mlp_kernel_sizes=(3, 3, 3, 3),
    ),
    configured((8, 16, 24, 32), ((2,), (2,), (3,), (4,)), kernel_sizes=((), (), (), ()), depths=(1, 1, 1, 1)),
    configured((8, 16, 24, 36), ((2, 0), (2, 0), (3, 0), (4, 0)), depths=(1, 1, 1, 1), mlp_ratios=(5, 5, 5, 5)),
    configured((16, 24, 32, 48), ((3, 1), (2, 2), (2, 2), (1, 3)), depths=(1, 1, 1, 1), qkv_bias=False),
)
"""Configurations with all that the published ones have (the golden cases are theirs), and a second local group."""
EACH: list[tuple[Rewrite, ...]] = [
    (fold_batch_norm,),
    (fold_scales,),
    (fold_group_norm_affine,),
    (fold_group_norm_affine, normalize_in_two_steps),
    (fold_group_norm_affine, normalize_axis_by_axis),
    (fold_group_norm_affine, normalize_in_float16),
    (fold_group_norm_affine, normalize_by_division),
    (fold_batch_norm, fold_group_norm_affine, shrink_residual_stream),
    (attend_keys_first,),
    (attend_few_keys_first,),
    (attend_in_blocks,),
    (attend_head_by_head,),
    (split_large_depthwise_kernels,),
    (group_hidden_channels,),
    (fold_scales, separate_branches),
]
"""Each with those that must come before it."""
TARGETS = {(name, target.name): target for name, item in BACKENDS.items() for target in item.targets.values()}
WHOLE = list(
    dict.fromkeys(
        tuple(REWRITES[name] for name in chosen)
        for target in TARGETS.values()
        for chosen in (target.rewrites, target.integer_rewrites)
    )
)
"""All that a target wants, in its order."""


def names(rewrites: Sequence[Rewrite]) -> str:
    return "+".join(rewrite.__name__ for rewrite in rewrites)


@pytest.mark.parametrize(
    "rewrites",
    [*EACH, *(pytest.param(each) for each in WHOLE)],
    ids=names,
)
@settings(max_examples=6, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 2**31), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))
def test_a_rewrite_changes_nothing(
    rewrites: Sequence[Rewrite], variant: Architecture, seed: int, batch: int, rows: int, cols: int
) -> None:
    model = as_trained(variant.of_classes(5), seed)
    image = torch.randn(batch, 3, 32 * rows, 32 * cols)
    with torch.inference_mode():
        before = model(image)
        for rewrite in rewrites:
            rewrite(model)
        torch.testing.assert_close(model(image), before, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(("format_name", "target"), TARGETS)
def test_lowering_leaves_the_original_alone(format_name: str, target: str, integer: bool) -> None:
    model = as_trained(TINY, seed=1)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)
        lowered = lower(model, format_name, target, integer=integer)
        assert torch.equal(model(image), before)
        torch.testing.assert_close(lowered(image), before, rtol=0, atol=TOLERANCE)


def test_every_rewrite_is_wanted_by_a_target_and_every_wanted_one_exists() -> None:
    assert {name for target in TARGETS.values() for name in target.rewrites} == set(REWRITES)


@pytest.mark.parametrize("target", TARGETS.values(), ids=["-".join(key) for key in TARGETS])
def test_integers_leave_rewrites_out_and_take_none_up(target: Target) -> None:
    excluded = set(target.rewrites) - set(target.integer_rewrites)
    assert excluded <= {"separate_branches", "group_hidden_channels"}
    assert list(target.integer_rewrites) == [name for name in target.rewrites if name not in excluded]


@pytest.mark.parametrize(("format_name", "target"), TARGETS)
def test_a_lowered_model_has_no_scale_or_shift_left_but_the_stem_s(format_name: str, target: str) -> None:
    lowered = lower(as_trained(VARIANTS["xxs"].of_classes(5), seed=2), format_name, target)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    assert not any(module.affine for module in lowered.modules() if isinstance(module, nn.GroupNorm))
    assert {module.scale for module in lowered.modules() if isinstance(module, CloAttention)} <= {1.0}
    pointwise = [
        name
        for name, module in lowered.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight[0].numel() == 1
    ]
    assert pointwise == ["patch_embed.layernorm.1"]


def test_folding_an_affine_gives_a_bias_to_projections_without_one() -> None:
    model = as_trained(VARIANTS["xxs"].of_classes(5), seed=3)
    next(model.blocks).attn = CloAttention(32, 4, (3, 1), (3,), 8, qkv_bias=False).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)
        fold_group_norm_affine(model)
        torch.testing.assert_close(model(image), before, rtol=0, atol=TOLERANCE)


def test_two_step_norms_need_the_affine_folded() -> None:
    with pytest.raises(ValueError, match="has parameters"):
        normalize_in_two_steps(as_trained(VARIANTS["xxs"].of_classes(5), seed=4))


def test_separate_branches_need_the_scales_folded() -> None:
    with pytest.raises(ValueError, match="folded into the weights first"):
        separate_branches(as_trained(VARIANTS["xxs"].of_classes(5), seed=5))


@pytest.mark.parametrize(
    "rewrite",
    [
        attend_keys_first,
        attend_few_keys_first,
        attend_in_blocks,
        attend_head_by_head,
    ],
)
def test_every_global_attention_is_replaced(rewrite: Rewrite) -> None:
    model = as_trained(VARIANTS["xxs"].of_classes(5), seed=6)
    rewrite(model)
    assert not any(type(block.attn.global_attention) is GlobalAttention for block in model.blocks)


def test_no_large_depthwise_kernel_is_left() -> None:
    model = as_trained(VARIANTS["s"].of_classes(5), seed=7)
    split_large_depthwise_kernels(model)
    depthwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert max(conv.weight[0].numel() for conv in depthwise) <= MAX_TAPS
    split = [module for module in model.modules() if isinstance(module, RowSplitConv)]
    assert {tuple(cast(nn.Conv2d, part).kernel_size) for part in split[-1].parts} == {(2, 9), (1, 9)}


@pytest.mark.parametrize("variant", ["xxs", "xs", "s"])
def test_hidden_groups_are_small_and_even(variant: str) -> None:
    model = as_trained(VARIANTS[variant].of_classes(5), seed=8)
    group_hidden_channels(model)
    grouped = [block.mlp for block in model.blocks if isinstance(block.mlp, GroupedConvFFN)]
    for ffn in grouped:
        sizes = [cast(nn.Conv2d, conv).out_channels for conv in ffn.fc1]
        assert max(sizes) <= MAX_CHANNELS
        assert max(sizes) - min(sizes) <= 1
    small = [block.mlp for block in model.blocks if isinstance(block.mlp, ConvFFN)]
    assert all(ffn.fc1.out_channels <= MAX_CHANNELS for ffn in small)
    assert len(grouped) + len(small) == 12


def test_separate_branches_split_and_concatenate_nothing() -> None:
    """The only exception are keys and values, which are small."""
    model = lower(as_trained(SMALL[0].of_classes(5), seed=9), "onnx", "cpu")
    assert all(isinstance(block, BranchSumBlock) for block in model.blocks)
    graph = torch.export.export(model, (torch.zeros(1, 3, 64, 64),)).graph
    called = Counter(str(node.target) for node in graph.nodes if node.op == "call_function")
    assert called["aten.chunk.default"] == len(list(model.blocks)) == 5
    assert set(called).isdisjoint({"aten.split.Tensor", "aten.cat.default", "aten.slice.Tensor"})


def test_the_residual_stream_shrinks() -> None:
    model = as_trained(VARIANTS["xxs"].of_classes(5), seed=11)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model.features(image)
        for rewrite in (fold_batch_norm, fold_group_norm_affine, shrink_residual_stream):
            rewrite(model)
        for small, large in zip(model.features(image), before, strict=True):
            torch.testing.assert_close(small * SHRINK, large, rtol=0, atol=1e-4)


def test_normalizations_sum_few_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 320 x 320 the first stage has 80 x 80 pixels: more than one mean may sum."""
    model = lower(as_trained(VARIANTS["xxs"].of_classes(5), seed=10), "coreml", "ane")
    longest = 0
    mean = torch.Tensor.mean

    def counted(x: torch.Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> torch.Tensor:
        nonlocal longest
        axes = (dim,) if isinstance(dim, int) else dim
        longest = max(longest, int(torch.tensor([x.shape[axis] for axis in axes]).prod()))
        return mean(x, dim=dim, keepdim=keepdim)

    monkeypatch.setattr(torch.Tensor, "mean", counted)
    with torch.inference_mode():
        model(torch.randn(1, 3, 320, 320))
    assert 256 <= longest <= 4096


@pytest.mark.parametrize(
    ("heads", "side", "keys"),
    [(1, 56, 7), (2, 28, 7), (3, 16, 9), (7, 14, 7), (1, 8, 7), (4, 14, 7), (1, 15, 15), (2, 15, 15), (1, 7, 7)],
    ids=[
        "blocks",
        "by head",
        "groups",
        "uneven groups",
        "one small head",
        "all",
        "odd",
        "odd by head",
        "odd and small",
    ],
)
def test_attention_in_blocks_is_attention(heads: int, side: int, keys: int) -> None:
    generator = torch.Generator().manual_seed(heads)
    q = torch.randn(2, 8 * heads, side, side, generator=generator)
    kv = torch.randn(2, 16 * heads, keys, keys, generator=generator)
    expected = GlobalAttention(heads)(q, kv)
    torch.testing.assert_close(BlockwiseAttention(heads)(q, kv), expected, rtol=0, atol=1e-5)


def test_blocks_have_few_logits() -> None:
    sizes: list[int] = []

    class Counting(BlockwiseAttention):
        def _weighted(self, logits: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            sizes.append(logits.numel())
            return super()._weighted(logits, values)

    Counting(7)(torch.randn(1, 56, 32, 48), torch.randn(1, 112, 8, 12))
    assert max(sizes) <= BLOCK_LOGITS
    assert sum(sizes) == 7 * 32 * 48 * 8 * 12
