"""An attention gives up its maximum where, and only where, the ranges of what it reads keep exp within float32."""

import dataclasses
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from cloformer_deploy.backends.registry import lower, target_of
from cloformer_deploy.lowering.softmax import MaximumSubtracted
from cloformer_deploy.networks.cloformer.attention import CloAttention, GlobalAttention
from cloformer_deploy.networks.cloformer.lowering.attention import KeysFirstAttention, LateDivisionAttention
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.bounds import leave_out_maxima
from cloformer_deploy.quantization.observers import Range
from cloformer_deploy.quantization.plan import Plan
from tests.quantization.small_models import SIDE, Traced, noise, small_model

pytestmark = pytest.mark.integration

RECIPE = target_of("tflite", "cpu").recipes["int8"]
WIDTH = 4
"""Channels of a head of the small model; its pooled maps have 4 keys."""


FORMS: Mapping[str, Callable[[], KeysFirstAttention | LateDivisionAttention]] = {
    "few keys": lambda: KeysFirstAttention(GlobalAttention(1)),
    "many keys": lambda: LateDivisionAttention(1),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """The form of the attention."""
    return str(request.param)


@pytest.fixture(scope="module")
def small(form: str) -> Traced:
    model = lower(small_model(0), "tflite", "cpu", integer=True)
    for item in [item for item in model.modules() if isinstance(item, CloAttention)]:
        few = item.global_attention
        assert isinstance(few, KeysFirstAttention)
        if form == "many keys":
            item.global_attention = few.otherwise
    return Traced(model, graph.trace(model, 3, SIDE, SIDE))


@pytest.fixture(scope="module")
def planned(small: Traced) -> Plan:
    return small.plan(RECIPE, noise(0))


def attentions(small: Traced) -> list[MaximumSubtracted]:
    modules = [item.global_attention for item in small.model.modules() if isinstance(item, CloAttention)]
    return [item for item in modules if isinstance(item, MaximumSubtracted)]


def with_ranges(small: Traced, planned: Plan, q: Range, kv: Range) -> Plan:
    """The plan with these ranges around the first stage's attention."""
    names = {
        graph.path(node): node.name for node in small.nodes("conv") if graph.path(node).startswith("layers.0.blocks.0.")
    }
    changed = {
        names["layers.0.blocks.0.attn.global_q"]: q,
        names["layers.0.blocks.0.attn.global_kv"]: kv,
    }
    assert changed.keys() <= planned.ranges.keys()
    return dataclasses.replace(planned, ranges={**planned.ranges, **changed})


def maxima(traced: fx.GraphModule) -> int:
    return sum(node.target is torch.ops.aten.amax.default for node in traced.graph.nodes)


def bounded(small: Traced, plan: Plan) -> bool:
    model, traced = graph.copied(small.model, small.module)
    leave_out_maxima(model, traced, plan)
    return dict(model.named_modules())["layers.0.blocks.0.attn.global_attention"].bounded is True


def test_small_logits_need_no_maximum(small: Traced, planned: Plan) -> None:
    model, traced = graph.copied(small.model, small.module)
    assert maxima(traced) == 2
    assert leave_out_maxima(model, traced, planned)
    after = graph.trace(model, 3, SIDE, SIDE)
    # The graph is that of the changed model, under the names of before.
    assert maxima(after) == maxima(traced) == 0
    assert [node.target for node in after.graph.nodes if node.op == "call_function"] == [
        node.target for node in traced.graph.nodes if node.op == "call_function"
    ]
    assert {node.name for node in traced.graph.nodes} < {node.name for node in small.module.graph.nodes}
    with torch.inference_mode():
        torch.testing.assert_close(model(noise(1)), small.model(noise(1)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(traced(noise(1)), model(noise(1)), rtol=1e-5, atol=1e-6)


def test_floats_prove_nothing(small: Traced) -> None:
    left = small.plan(RECIPE, noise(0), (r"layers\.0\.blocks\.0\.attn\.global_q$",))
    model, traced = graph.copied(small.model, small.module)
    assert leave_out_maxima(model, traced, left)
    assert maxima(traced) == 1
    assert [item.bounded for item in attentions(dataclasses.replace(small, model=model))] == [False, True]
    assert not any(item.bounded for item in attentions(small))


@pytest.mark.parametrize(("largest", "expected"), [(70.0, True), (81.0, True), (86.0, False), (1000.0, False)])
def test_the_limit_is_that_of_exp(small: Traced, planned: Plan, largest: float, expected: bool) -> None:
    q = Range(-largest / WIDTH, 0.1)
    assert bounded(small, with_ranges(small, planned, q, Range(-1.0, 0.5))) is expected


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 30), st.floats(0.01, 30), st.integers(0, 2**31))
def test_what_is_proven_holds_at_the_ends_of_the_ranges(
    form: str, small: Traced, planned: Plan, q: float, kv: float, seed: int
) -> None:
    plan = with_ranges(small, planned, Range(-q, q), Range(-kv, kv))
    if not bounded(small, plan):
        assert WIDTH * q * kv > 75
        return
    generator = torch.Generator().manual_seed(seed)
    queries = q * torch.randint(-1, 2, (2, WIDTH, 8, 8), generator=generator).float()
    pooled = kv * torch.randint(-1, 2, (2, 2 * WIDTH, 1, 4), generator=generator).float()
    attention = FORMS[form]()
    exact = attention(queries.double(), pooled.double())
    attention.bounded = True
    torch.testing.assert_close(attention(queries, pooled).double(), exact, rtol=1e-4, atol=1e-4 * kv)
