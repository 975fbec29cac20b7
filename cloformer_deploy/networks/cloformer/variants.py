"""The published variants of CloFormer and the two ablations, as data (arXiv 2303.17803)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One configuration of the architecture; every tuple has one entry a stage.

    `group_splits[i]` divides the heads of stage i into local groups (one for each entry of
    `kernel_sizes[i]`, the side of its depthwise kernel) and, last, the global group.
    `window_sizes[i]` is the side of the average pooling before the global keys and values.
    """

    name: str
    embed_dims: tuple[int, ...]
    group_splits: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...] = ((3,), (5,), (7,), (9,))
    window_sizes: tuple[int, ...] = (8, 4, 2, 1)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    mlp_kernel_size: int = 5
    mlp_ratio: int = 4


_XXS_DIMS = (32, 64, 128, 256)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("xxs", _XXS_DIMS, ((3, 1), (2, 2), (4, 4), (4, 12))),
        Variant("xs", (48, 96, 160, 352), ((2, 1), (3, 3), (5, 5), (7, 15))),
        Variant("s", (64, 128, 224, 448), ((3, 1), (4, 4), (7, 7), (7, 21))),
        Variant("global", _XXS_DIMS, ((4,), (4,), (8,), (16,)), kernel_sizes=((), (), (), ())),
        Variant("local", _XXS_DIMS, ((4, 0), (4, 0), (8, 0), (16, 0))),
    )
}
