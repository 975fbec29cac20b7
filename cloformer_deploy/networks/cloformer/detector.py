"""CloFormer for object detection: the body and an anchor-free head on strides 8, 16 and 32."""

from torch import Tensor

from cloformer_deploy.networks.cloformer.architecture import Architecture
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.heads.detector import STRIDES, Detector


class CloFormerDetector(CloFormerBody):
    """The detector. The paper's authors published no weights for dense tasks, so the head's names are our own."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.detect = Detector(architecture.embed_dims[-len(STRIDES) :], architecture.num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) and scores (B, N, num_classes) of an image batch (B, in_chans, H, W), see `Detector`.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        boxes, scores = self.detect(self.features(x)[-len(STRIDES) :])
        return boxes, scores
