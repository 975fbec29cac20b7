"""Exact rewrites of the architecture into the graph a target wants; a target is a list of rewrites."""

import copy
from collections.abc import Callable

from torch import nn

from cloformer_deploy.architecture import CloFormer
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.lowering.scales import fold_scales

Rewrite = Callable[[nn.Module], None]
"""Changes a model in evaluation mode in place; its float32 output moves by rounding only (<= 1e-5)."""

REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "cpu": (fold_batch_norm, fold_scales),
    "ane": (fold_batch_norm, fold_scales),
}


def lower(model: CloFormer, target: str) -> CloFormer:
    """A lowered copy, in evaluation mode; the original is left as it was."""
    lowered = copy.deepcopy(model).eval()
    for rewrite in REWRITES[target]:
        rewrite(lowered)
    return lowered


__all__ = ["REWRITES", "Rewrite", "fold_batch_norm", "fold_scales", "lower"]
