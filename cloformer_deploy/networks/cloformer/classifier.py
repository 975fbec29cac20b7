"""The CloFormer classifier: the body, a normalization, global average pooling and a linear layer (arXiv 2303.17803)."""

from torch import Tensor, nn

from cloformer_deploy.networks.cloformer.architecture import VARIANTS, Architecture
from cloformer_deploy.networks.cloformer.body import CloFormerBody, group_norm


class CloFormer(CloFormerBody):
    """The classifier, with the published parameter names: its head is `norm`, `pool` and `head`."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.num_classes = architecture.num_classes
        self.norm: nn.Module = group_norm(architecture.embed_dims[-1])
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(architecture.embed_dims[-1], architecture.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of an image batch (B, 3, H, W).

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        x = self.norm(self.features(x)[-1])
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits


def create_model(variant: str, num_classes: int = 1000) -> CloFormer:
    """Build an untrained CloFormer by its variant's name (a key of `VARIANTS`), in training mode.

    Raises:
        ValueError: the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    return CloFormer(VARIANTS[variant].of_classes(num_classes))
