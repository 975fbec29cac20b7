"""Two-step normalization of the whole network (see `lowering.normalization`)."""

from cloformer_deploy.lowering.normalization import LONGEST_SUM, Form, replace_group_norms
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.lowering.head import pool_before_norm

SMALL_MAP = 64
"""Most values of a channel that are averaged at once by `normalize_axis_by_axis`."""


def normalize_in_two_steps(model: CloFormerBody) -> None:
    """Replace every GroupNorm, which must have no scale and shift any more, in place.

    The classifier's norm moves behind its pooling, where it has fewer values to normalize.
    """
    _normalize(model, "reciprocal_root")


def normalize_axis_by_axis(model: CloFormerBody) -> None:
    """Do as `normalize_in_two_steps`, with means over rows, then columns, then channels, but for small maps.

    On Ethos-U a mean over a whole map is a convolution with one output: most of its units wait.
    """
    _normalize(model, "reciprocal_root", SMALL_MAP)


def normalize_in_float16(model: CloFormerBody) -> None:
    """Do as `normalize_in_two_steps`, with an eps that float16 represents as a normal number."""
    _normalize(model, "float16")


def normalize_by_division(model: CloFormerBody) -> None:
    """Do as `normalize_in_two_steps`, with a division in place of the product with a reciprocal."""
    _normalize(model, "division")


def _normalize(model: CloFormerBody, form: Form, longest_sum: int = LONGEST_SUM) -> None:
    pool_before_norm(model, form, longest_sum)
    replace_group_norms(model, form, longest_sum)
