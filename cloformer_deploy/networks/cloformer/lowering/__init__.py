"""Exact rewrites of CloFormer into the forms that targets run best. `docs/lowering.md` has the gain of each."""

from collections.abc import Mapping

from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.lowering.depthwise import split_large_depthwise_kernels
from cloformer_deploy.networks.base import Rewrite
from cloformer_deploy.networks.cloformer.lowering.affine import fold_group_norm_affine
from cloformer_deploy.networks.cloformer.lowering.attention import (
    attend_few_keys_first,
    attend_head_by_head,
    attend_in_blocks,
    attend_keys_first,
)
from cloformer_deploy.networks.cloformer.lowering.branches import separate_branches
from cloformer_deploy.networks.cloformer.lowering.head import clip_by_relus
from cloformer_deploy.networks.cloformer.lowering.hidden_groups import group_hidden_channels
from cloformer_deploy.networks.cloformer.lowering.normalization import (
    normalize_axis_by_axis,
    normalize_by_division,
    normalize_in_float16,
    normalize_in_two_steps,
)
from cloformer_deploy.networks.cloformer.lowering.residual_stream import shrink_residual_stream
from cloformer_deploy.networks.cloformer.lowering.scales import fold_scales

REWRITES: Mapping[str, Rewrite] = {
    rewrite.__name__: rewrite
    for rewrite in (
        fold_batch_norm,
        fold_scales,
        fold_group_norm_affine,
        shrink_residual_stream,
        normalize_in_two_steps,
        normalize_axis_by_axis,
        normalize_in_float16,
        normalize_by_division,
        attend_keys_first,
        attend_few_keys_first,
        attend_in_blocks,
        attend_head_by_head,
        separate_branches,
        split_large_depthwise_kernels,
        group_hidden_channels,
        clip_by_relus,
    )
}
"""Rewrites by the names that targets use, in the order that they are applied in."""

__all__ = ["REWRITES"]
