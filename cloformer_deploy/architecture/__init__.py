"""CloFormer (arXiv 2303.17803) in PyTorch, with the published parameter names; the variants as data."""

from cloformer_deploy.architecture.attention import CloAttention
from cloformer_deploy.architecture.cloformer import CloFormer, create_model
from cloformer_deploy.architecture.variants import INPUT_MULTIPLE, VARIANTS, Variant

__all__ = ["INPUT_MULTIPLE", "VARIANTS", "CloAttention", "CloFormer", "Variant", "create_model"]
