"""`prepare` finds Clo modules by structure, proves each equal, changes nothing else, and says what it did."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloformer_deploy import prepare
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.errors import RequestError, UnsupportedModelError
from cloformer_deploy.networks.cloformer import CloAttention
from cloformer_deploy.networks.cloformer.body import CloBlock
from tests.own import copies
from tests.own.copies import SWISHES, FunctionSwish, PluginAttention, PluginBlock
from tests.own.networks import Around, example, network, trained
from tests.tiny import TINY, as_trained

CLO = {
    "neck": {"attention.0": "attention", "attention.1": "attention"},
    "unet": {
        **{f"bottom.{index}{part}": kind for index in (0, 1) for part, kind in
           ((".attn", "attention"), (".mlp", "ffn"), ("", "block"))},
        "skip": "attention",
    },
    "resnet": {"layers.2.second.1": "attention", "layers.3.second.1": "attention"},
}  # fmt: skip


def ranks(model: nn.Module) -> int:
    program = torch.export.export(model, (example(),))
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "call_function"]
    return max(value.dim() for value in values if isinstance(value, Tensor))


@pytest.mark.parametrize(("name", "target"), [("neck", "coreml"), ("unet", "tflite"), ("resnet", "onnx")])
def test_everything_of_three_networks_is_found_and_rewritten(name: str, target: str) -> None:
    model, before = network(name), network(name)
    report = prepare(model, target, example())
    assert report.changed, report.reason
    assert {item.path: item.kind for item in report.replaced} == CLO[name]
    assert not report.left_alone
    assert not report.skipped
    assert {"fold_batch_norm", "fold_scales"} <= set(report.rewrites)
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
    assert ranks(before) == 5
    assert ranks(model) == 4
    other = example(seed=7)
    with torch.no_grad():
        expected, found = (torch.utils._pytree.tree_leaves(item(other)) for item in (before, model))
    assert report.max_abs_diff is not None
    assert report.max_abs_diff < 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", [target for item in BACKENDS.values() for target in item.targets if target != "cpu"])
def test_targets_are_taken_by_their_own_name(target: str) -> None:
    report = prepare(Around(PluginAttention(64, 4, (3, 1), (3,))).eval(), target, example())
    assert report.changed
    assert report.target.endswith(f" for {target}")


@pytest.mark.parametrize(
    ("act", "split"), [*zip(SWISHES * 2, [(3, 1), (4, 0), (4,), (1, 1, 2), (2, 2), (0, 4)], strict=True)]
)
def test_heads_windows_and_silu_of_any_form_are_recognized(act: Any, split: tuple[int, ...]) -> None:
    model = Around(PluginAttention(64, 4, split, (3, 5)[: len(split) - 1], 2, act=act)).eval()
    report = prepare(model, "coreml", example())
    assert [item.kind for item in report.replaced] == ["attention"]
    found = model.inner
    assert isinstance(found, CloAttention)
    assert (found.global_heads, found.dim_head) == (split[-1], 16)


def test_a_silu_of_its_own_anywhere_becomes_torchs() -> None:
    model = Around(nn.Sequential(nn.Conv2d(64, 64, 1), FunctionSwish())).eval()
    report = prepare(model, "coreml", example())
    assert [(item.path, item.now) for item in report.replaced] == [("inner.1", "SiLU")]


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (lambda: copies.WithoutTanh(64, 4, (3, 1), (3,), act=nn.SiLU), "computes something else"),
        (lambda: copies.WithMixing(64, 4, (3, 1), (3,), act=nn.SiLU), "has weights that Clo modules have not: mix"),
        (lambda: copies.OneDimensional(64), "is Conv1d, not Conv2d"),
    ],
)
def test_look_alikes_are_left_alone_with_the_reason(inner: Any, reason: str) -> None:
    model = Around(inner()).eval()
    before = model.inner
    report = prepare(model, "coreml", example())
    assert model.inner is before
    assert reason in report.left_alone[0].reason
    assert reason in str(report)
    assert not report.changed


def test_what_the_example_does_not_reach_is_left_alone() -> None:
    class Unused(Around):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x))
            return out

    report = prepare(Unused(PluginAttention(64, 4, (3, 1), (3,))).eval(), "onnx", example())
    assert report.left_alone[0].reason == "the example does not reach it"


class Counting(Around):
    """Its output depends on how many modules it has."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + len(list(self.modules()))


def test_a_network_that_would_differ_is_left_as_it_was() -> None:
    model = Counting(PluginAttention(64, 4, (3, 1), (3,))).eval()
    before = copy.deepcopy(model)
    report = prepare(model, "onnx", example())
    assert not report.changed
    assert "the rewritten network differs: SQNR" in report.reason
    assert repr(model) == repr(before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])


def test_attributes_that_the_surroundings_put_on_a_module_stay() -> None:
    model = Around(PluginBlock(64, 64, 1)).eval()
    model.inner.i, model.inner.f = 3, [-1, 2]  # type: ignore[assignment]
    prepare(model, "onnx", example())
    assert [getattr(model.inner, name) for name in "if"] == [3, [-1, 2]]


def test_a_down_sampling_block_and_a_shared_one() -> None:
    block = trained(PluginBlock(64, 96, 2))
    model = Around(nn.Sequential(block, nn.Conv2d(96, 64, 1))).eval()
    expected = model(example())
    report = prepare(model, "tflite", example())
    assert isinstance(model.inner[0], CloBlock)  # type: ignore[index]
    assert "fold_batch_norm" in report.rewrites
    torch.testing.assert_close(model(example()), expected, rtol=0, atol=1e-5)

    same = PluginAttention(64, 4, (3, 1), (3,))
    shared = Around(nn.Sequential(same, nn.ReLU(), same)).eval()
    prepare(shared, "coreml", example())
    assert shared.inner[0] is shared.inner[2]  # type: ignore[index]
    assert isinstance(shared.inner[0], CloAttention)  # type: ignore[index]


def test_our_own_classifier_can_be_prepared() -> None:
    model = as_trained(TINY, seed=0)
    with torch.no_grad():
        expected = model(example())
        assert prepare(model, "tflite", example()).changed
        torch.testing.assert_close(model(example()), expected, rtol=0, atol=1e-5)


def test_a_network_without_clo_modules_gets_what_holds_for_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).eval()
    assert prepare(model, "onnx", example()).rewrites == ("fold_batch_norm",)
    bare = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    assert not prepare(bare, "onnx", example()).changed


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@pytest.mark.parametrize(
    ("model", "given", "error", "match"),
    [
        (nn.Conv2d(3, 4, 1), (example(), example()), UnsupportedModelError, "2 inputs"),
        (TwoInputs(), example(), UnsupportedModelError, "several inputs: x, y"),
        (nn.Conv2d(3, 4, 1).double(), example(), UnsupportedModelError, "float64"),
        (nn.Conv2d(5, 4, 1), example(), UnsupportedModelError, "fails on the example"),
        (nn.Conv2d(3, 4, 1), example()[0], UnsupportedModelError, "no image batch"),
    ],
)
def test_other_networks_are_refused_by_name(model: nn.Module, given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        prepare(model, "onnx", given)


def test_an_unknown_or_ambiguous_target_is_refused() -> None:
    for target in ("torchscript", "cpu"):
        with pytest.raises(RequestError, match=target):
            prepare(nn.Conv2d(3, 4, 1), target, example())
