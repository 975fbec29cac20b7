"""The part of each rewrite that concerns a head. A body without a head, or with another one, is left alone."""

from typing import cast

from torch import nn

from cloformer_deploy.lowering.normalization import Form, PooledNorm
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.classifier import CloFormer
from cloformer_deploy.networks.cloformer.detector import CloFormerDetector
from cloformer_deploy.networks.cloformer.pyramid import CloFormerPyramid
from cloformer_deploy.networks.cloformer.segmenter import CloFormerSegmenter
from cloformer_deploy.networks.heads.detector import ClipByRelus


def affine_readers(model: CloFormerBody) -> list[tuple[str, list[nn.Linear | nn.Conv2d]]]:
    """Return the head's GroupNorms, by attribute name, each with the layers that read its output."""
    return [("norm", [model.head])] if isinstance(model, CloFormer) else []


def stream_norms(model: CloFormerBody) -> list[nn.GroupNorm]:
    """Return the GroupNorms of the head that read the residual stream."""
    return [cast(nn.GroupNorm, model.norm)] if isinstance(model, CloFormer) else []


def restore_stream(model: CloFormerBody, factor: float) -> None:
    """Multiply what a head takes from the residual stream without normalizing it, in place.

    Of a head for dense tasks that is what the laterals read, so that the factor is folded into their weights; without
    a head it is the outputs.
    """
    if isinstance(model, CloFormerPyramid):
        model.stream_scale *= factor
    if isinstance(model, CloFormerSegmenter):
        model.segment.scale_inputs(factor)
    if isinstance(model, CloFormerDetector):
        model.detect.scale_inputs(factor)


def clip_by_relus(model: CloFormerBody) -> None:
    """Clip a detector's boxes by two ReLUs, in place. See `ClipByRelus`."""
    if isinstance(model, CloFormerDetector):
        model.detect.clip = ClipByRelus()


def pool_before_norm(model: CloFormerBody, form: Form, longest_sum: int) -> None:
    """Replace the classifier's norm and pooling by one `PooledNorm`, in place; the norm's affine is folded already."""
    if isinstance(model, CloFormer):
        model.pool = PooledNorm(cast(nn.GroupNorm, model.norm).eps, form, longest_sum)
        model.norm = nn.Identity()
