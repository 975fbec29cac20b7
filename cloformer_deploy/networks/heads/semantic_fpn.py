"""A light Semantic FPN: class logits at stride 4 from a feature pyramid.

A. Kirillov, R. Girshick, K. He, P. Dollár, "Panoptic Feature Pyramid Networks", arXiv 1901.02446, with depthwise
separable convolutions, BatchNorm, and one path from the coarsest map to the finest, which adds the lateral of each map
on its way.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cloformer_deploy.networks.heads.layers import WIDTH, TopDown


class SemanticFPN(TopDown):
    """The head; its logits have the size of the pyramid's finest map.

    Args:
        channels: of each map of the pyramid, see `TopDown`.
        num_classes: channels of the logits.

    Attributes:
        classify: 1x1 convolution to the logits.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__(channels, 3)
        self.classify = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits (B, num_classes, H, W) for maps (B, C_i, H / 2 ** i, W / 2 ** i)."""
        logits: Tensor = self.classify(self.top_down(pyramid)[0])
        return logits
