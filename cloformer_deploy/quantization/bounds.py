"""Leave out the maximum of a softmax where integer ranges prove that the exponential cannot overflow.

A softmax does not change when a constant is subtracted from a row. The row's maximum is subtracted because exp
overflows float32 at 88.7. Where q and k come out of integer convolutions, neither can leave its range, whatever the
image, and neither can their product.
"""

import math
from collections.abc import Iterator

import numpy as np
from torch import fx, nn

from cloformer_deploy.lowering.softmax import MaximumSubtracted
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan

_FLOAT32 = np.finfo(np.float32)
_HIGHEST = math.log(_FLOAT32.max)
_LOWEST = math.log(_FLOAT32.smallest_normal)
"""Smaller numbers are subnormal, which XNNPACK may treat as 0."""
_KEYS_LAST = 3
"""Axis of the keys in logits (B, heads, queries, keys); in those of (B, heads, keys, queries) it is 2."""
_SLACK = 0.1
"""Allowance for the rounding of float32 sums, one thousandth of the largest logits."""


def leave_out_maxima(model: nn.Module, traced: fx.GraphModule, plan: Plan) -> bool:
    """Subtract no maximum in any attention whose logits a plan bounds, in place; return True if there is one.

    Args:
        model: lowered.
        traced: its graph, in which every maximum is subtracted; the names of what is left do not change.
        plan: the ranges of its integers.
    """
    bounded = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MaximumSubtracted) and _exp_holds(traced, plan, name)
    }
    for module in bounded.values():
        module.bounded = True
    for node in filter(_is_maximum, list(traced.graph.nodes)):
        if graph.path(node) in bounded:
            (difference,) = node.users
            difference.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(difference)
            traced.graph.erase_node(node)
    traced.recompile()
    return bool(bounded)


def _exp_holds(traced: fx.GraphModule, plan: Plan, path: str) -> bool:
    """Tell whether every exp, sum of exps and product with a value stays within the normal numbers of float32."""
    maximum = next((node for node in traced.graph.nodes if _is_maximum(node) and graph.path(node) == path), None)
    if maximum is None:  # it computes in another form
        return False
    (axis,), logits = maximum.args[1], maximum.args[0]
    first, second = graph.activations(logits)
    width, count = int(second.meta["val"].shape[2]), int(logits.meta["val"].shape[axis])
    factors = (second, first) if axis == _KEYS_LAST else (first, second)
    keys, queries = ({graph.source(item) for item in _origins(factor)} for factor in factors)
    if not {node.name for node in queries | keys} <= plan.operators & plan.ranges.keys():
        return False  # a float tensor has no bound
    q, (k, step) = _largest(queries, plan)[0], _largest(keys, plan)
    largest_logit = width * q * k + _SLACK
    # Keys and values are halves of one tensor, so k and its step are also the largest and the smallest nonzero value.
    return largest_logit + math.log(count * max(k, 1)) < _HIGHEST and -largest_logit + math.log(min(step, 1)) > _LOWEST


def _is_maximum(node: fx.Node) -> bool:
    return bool(node.target is graph.ATEN.amax.default)


def _origins(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the tensors outside the attention that a node inside it is computed from."""
    if not graph.is_attention(node):
        yield node
    else:
        for item in graph.activations(node):
            yield from _origins(item)


def _largest(nodes: set[fx.Node], plan: Plan) -> tuple[float, float]:
    """Return the largest magnitude and the smallest step of some tensors' integers."""
    grids = [plan.ranges[node.name].grid(plan.activation_bits) for node in nodes]
    last = 2**plan.activation_bits - 1
    return max(scale * max(zero, last - zero) for scale, zero in grids), min(scale for scale, _ in grids)
