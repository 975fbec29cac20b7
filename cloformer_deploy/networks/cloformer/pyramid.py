"""CloFormer without a head: the feature pyramid that dense tasks read (arXiv 2303.17803, section 4)."""

from torch import Tensor

from cloformer_deploy.networks.cloformer.architecture import Architecture
from cloformer_deploy.networks.cloformer.body import CloFormerBody


class CloFormerPyramid(CloFormerBody):
    """The body alone; its outputs are `c2` to `c5`.

    Attributes:
        stream_scale: factor of every map, by which a rewrite undoes a smaller residual stream.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.stream_scale = 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of an image batch (B, in_chans, H, W): (B, embed_dims[i], H / stride, W / stride).

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        maps = self.features(x)
        return tuple(maps) if self.stream_scale == 1 else tuple(item * self.stream_scale for item in maps)
