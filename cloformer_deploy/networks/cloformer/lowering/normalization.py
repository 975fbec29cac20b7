"""Two-step normalization of the whole network (see `lowering.normalization`)."""

from cloformer_deploy.lowering.normalization import replace_group_norms
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.lowering.head import pool_before_norm


def normalize_in_two_steps(model: CloFormerBody) -> None:
    """Replace every GroupNorm, which must have no scale and shift any more, in place.

    The classifier's norm moves behind its pooling, where it has fewer values to normalize.
    """
    pool_before_norm(model, float16=False)
    replace_group_norms(model, float16=False)


def normalize_in_float16(model: CloFormerBody) -> None:
    """Do as `normalize_in_two_steps`, with an eps that float16 represents as a normal number."""
    pool_before_norm(model, float16=True)
    replace_group_norms(model, float16=True)
