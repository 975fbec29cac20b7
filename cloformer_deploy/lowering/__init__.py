"""Exact rewrites of the architecture into the graph a target runs best; a target is a list of rewrites."""

import copy
from collections.abc import Callable, Mapping

from cloformer_deploy.lowering.affine import fold_group_norm_affine
from cloformer_deploy.lowering.attention import (
    attend_channels_last,
    attend_head_by_head,
    attend_keys_first,
    attend_with_late_division,
)
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.lowering.branches import separate_branches
from cloformer_deploy.lowering.depthwise import split_large_depthwise_kernels
from cloformer_deploy.lowering.hidden_groups import group_hidden_channels
from cloformer_deploy.lowering.normalization import normalize_in_float16, normalize_in_two_steps
from cloformer_deploy.lowering.residual_stream import shrink_residual_stream
from cloformer_deploy.lowering.scales import fold_scales
from cloformer_deploy.networks.cloformer import CloFormer

Rewrite = Callable[[CloFormer], None]
"""Changes a model in evaluation mode in place; its float32 output moves by rounding only (<= 1e-5)."""

_FOLDS: tuple[Rewrite, ...] = (fold_batch_norm, fold_scales, fold_group_norm_affine)

LOWERINGS: Mapping[tuple[str, str], tuple[Rewrite, ...]] = {
    ("onnx", "cpu"): (*_FOLDS, attend_keys_first, separate_branches),
    ("onnx", "hexagon"): (*_FOLDS, normalize_in_two_steps),
    ("tflite", "cpu"): (
        *_FOLDS,
        normalize_in_two_steps,
        attend_with_late_division,
        split_large_depthwise_kernels,
        group_hidden_channels,
    ),
    ("tflite", "ethos-u"): (*_FOLDS, normalize_in_two_steps, attend_channels_last),
    ("coreml", "ane"): (*_FOLDS, shrink_residual_stream, normalize_in_float16, attend_head_by_head),
}
"""The rewrites for each format and target, in the order they are applied. `docs/lowering.md` has what each brings."""

INTEGER_LOWERINGS: Mapping[tuple[str, str], tuple[Rewrite, ...]] = {
    **LOWERINGS,
    # Integer convolutions have neither the blocked layout nor the cache misses that the rewrites left out are for.
    ("onnx", "cpu"): (*_FOLDS, attend_keys_first),
    ("tflite", "cpu"): (
        *_FOLDS,
        normalize_in_two_steps,
        attend_with_late_division,
        split_large_depthwise_kernels,
    ),
}
"""The same where convolutions are computed in integers."""


def lower(model: CloFormer, format_name: str, target: str, *, integer: bool = False) -> CloFormer:
    """A lowered copy for a format and target of `LOWERINGS`, in evaluation mode; the original is left as it was.

    Args:
        model: is not changed.
        format_name: a format.
        target: one of its targets.
        integer: the convolutions will be computed in integers.
    """
    lowered = copy.deepcopy(model).eval()
    for rewrite in (INTEGER_LOWERINGS if integer else LOWERINGS)[format_name, target]:
        rewrite(lowered)
    return lowered


__all__ = ["INTEGER_LOWERINGS", "LOWERINGS", "Rewrite", "lower"]
