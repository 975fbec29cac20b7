"""What integers prove: logits of the global attention that cannot overflow exp need no maximum taken off first.

A softmax is the same whatever is taken off its row; the row's maximum is, for exp overflows float32 at 88.7. Where q
and k come out of integer convolutions neither leaves its range, whatever the image, and so nor does their product.
"""

import math
from collections.abc import Iterator

import numpy as np
from torch import fx

from cloformer_deploy.lowering.attention import LateDivisionAttention
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan

_FLOAT32 = np.finfo(np.float32)
_HIGHEST = math.log(_FLOAT32.max)
_LOWEST = math.log(_FLOAT32.smallest_normal)
"""Numbers below are subnormal, which XNNPACK may take for 0."""
_SLACK = 0.1
"""For the rounding of float32 sums; a part in 1,000 of the logits."""


def leave_out_maxima(model: CloFormer, traced: fx.GraphModule, plan: Plan) -> bool:
    """Mark every attention whose logits a plan bounds, in place; True if there is one.

    Args:
        model: lowered.
        traced: its graph, with every maximum taken off.
        plan: the ranges that its integers hold to.
    """
    bounded = [
        module
        for name, module in model.named_modules()
        if isinstance(module, LateDivisionAttention) and _exp_holds(traced, plan, name)
    ]
    for module in bounded:
        module.bounded = True
    return bool(bounded)


def _exp_holds(traced: fx.GraphModule, plan: Plan, path: str) -> bool:
    """Whether no exp, no sum of them and no product with a value can leave the normal numbers of float32."""
    product = next(node for node in traced.graph.nodes if graph.path(node) == path and graph.kind(node) == "matmul")
    queries, keys = ({graph.source(item) for item in _origins(factor)} for factor in graph.activations(product))
    if not {node.name for node in queries | keys} <= plan.operators & plan.ranges.keys():
        return False  # a float can be anything
    width, count = (int(side) for side in graph.activations(product)[1].meta["val"].shape[2:])
    q, (k, step) = _largest(queries, plan)[0], _largest(keys, plan)
    largest_logit = width * q * k + _SLACK
    # Keys and values are halves of one tensor: k and its step are also the largest and the smallest value but 0.
    return largest_logit + math.log(count * max(k, 1)) < _HIGHEST and -largest_logit + math.log(min(step, 1)) > _LOWEST


def _origins(node: fx.Node) -> Iterator[fx.Node]:
    """The tensors outside the attention that a node inside it is made of."""
    if not graph.is_attention(node):
        yield node
    else:
        for item in graph.activations(node):
            yield from _origins(item)


def _largest(nodes: set[fx.Node], plan: Plan) -> tuple[float, float]:
    """The largest magnitude and the smallest step of some tensors' integers."""
    grids = [plan.ranges[node.name].grid(plan.activation_bits) for node in nodes]
    last = 2**plan.activation_bits - 1
    return max(scale * max(zero, last - zero) for scale, zero in grids), min(scale for scale, _ in grids)
