"""A program as modules: torch.nn's at the leaves, under their own names, with everything that rewrites look for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cloformer_deploy.backends.registry import lower
from cloformer_deploy.networks.cloformer import CloAttention
from cloformer_deploy.networks.cloformer.attention import GlobalAttention
from cloformer_deploy.networks.cloformer.lowering.attention import (
    MOST_KEYS,
    KeysFirstAttention,
    LateDivisionAttention,
)
from cloformer_deploy.networks.program.network import ProgramNetwork
from cloformer_deploy.networks.program.rewrites import GroupedNorm
from cloformer_deploy.networks.program.tracing import traced
from tests.own.networks import example, network, trained


class NormAndAct(nn.BatchNorm2d):
    """BatchNorm and activation in one module, as timm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(super().forward(x))
        return out


def with_timm_norms() -> nn.Module:
    return trained(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), NormAndAct(8), nn.Conv2d(8, 8, 1), NormAndAct(8)))


@pytest.mark.parametrize("make", [with_timm_norms, lambda: network("resnet")])
@pytest.mark.parametrize(("format_name", "target"), [("coreml", "ane"), ("onnx", "cpu")])
def test_every_batch_norm_behind_a_convolution_is_folded(
    make: Callable[[], nn.Module], format_name: str, target: str
) -> None:
    model = make()
    tree = ProgramNetwork().model_of(traced(model, example(), any_batch=True))
    lowered = lower(tree, format_name, target)
    assert any(isinstance(module, nn.BatchNorm2d) for module in tree.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    with torch.no_grad():
        expected = model(example(batch=3))
        for found in (tree(example(batch=3)), lowered(example(batch=3))):
            for ours, theirs in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class Unfolded(nn.Module):
    """Patches of a convolution's output, moved by one reshape, as MobileViT has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = x.reshape(x.shape[0] * 4 * (x.shape[2] // 2), 2, x.shape[3] // 2, 2).transpose(1, 2).flatten(1)
        return out.reshape(x.shape[0], -1)


def test_a_view_is_a_reshape_for_images_whose_channels_are_last() -> None:
    model = Unfolded().eval()
    (found,) = ProgramNetwork().model_of(traced(model, example(), any_batch=True))(
        example(batch=3).to(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(found, model(example(batch=3)), rtol=0, atol=1e-5)


def test_the_tree_has_the_names_and_the_clo_modules_of_the_network() -> None:
    tree = ProgramNetwork().model_of(traced(network("resnet"), example(), any_batch=True))
    theirs = {name for name, module in network("resnet").named_modules() if isinstance(module, nn.Conv2d)}
    assert {name for name, module in tree.named_modules() if isinstance(module, nn.Conv2d)} == theirs
    found = ProgramNetwork().rewritable(tree)
    assert isinstance(found.get_submodule("layers.3.second.1"), CloAttention)
    assert not any(isinstance(module, CloAttention) for module in tree.modules())


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_group_norm_of_several_groups_in_rank_4(groups: int) -> None:
    norm = nn.GroupNorm(groups, 8, affine=False)
    x = torch.randn(3, 8, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(GroupedNorm(groups, norm.eps)(x), norm(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
def test_many_keys_are_attended_to_with_the_softmax_last(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, kv = torch.randn(2, 32, 12, 12, generator=generator), torch.randn(2, 64, side, side, generator=generator)
    form = KeysFirstAttention(GlobalAttention(2))
    torch.testing.assert_close(form(q, kv), GlobalAttention(2)(q, kv), rtol=0, atol=1e-5)
    graph = torch.export.export(form, (q, kv)).graph
    written_out = any("exp" in str(node.target) for node in graph.nodes if "expand" not in str(node.target))
    assert written_out == (side**2 <= MOST_KEYS)


def test_many_keys_are_attended_to_in_the_form_that_is_given() -> None:
    generator = torch.Generator().manual_seed(0)
    q, kv = torch.randn(2, 32, 12, 12, generator=generator), torch.randn(2, 64, 9, 9, generator=generator)
    late = LateDivisionAttention(2)
    late.bounded = True
    found = KeysFirstAttention(late)(10 * q, 10 * kv)
    assert found.isnan().any()  # its exp overflows: no maximum is subtracted
    assert KeysFirstAttention(LateDivisionAttention(2))(10 * q, 10 * kv).isfinite().all()
