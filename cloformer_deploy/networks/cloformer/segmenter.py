"""CloFormer for semantic segmentation: the body and a light Semantic FPN."""

from torch import Tensor

from cloformer_deploy.networks.cloformer.architecture import Architecture
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.heads.semantic_fpn import SemanticFPN


class CloFormerSegmenter(CloFormerBody):
    """The segmenter. The paper's authors published no weights for dense tasks, so the head's names are our own."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.segment = SemanticFPN(architecture.embed_dims, architecture.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, H / 4, W / 4) of an image batch (B, in_chans, H, W).

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        logits: Tensor = self.segment(self.features(x))
        return logits
