"""The feature pyramid of a network without a head: maps of strides 4, 8, 16 and 32, judged by their distances alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.tasks.base import Comparison, Output, Outputs, Truths
from cloformer_deploy.tasks.limits import LIMITS, without_drop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloformer_deploy.data import Dataset

MAPS = tuple(
    Output(f"c{level}", ("batch", "channels", "height", "width"), f"feature map of stride {2**level}")
    for level in range(2, 6)
)
RENDERED_COUNT = 16
"""Rendered images that are used without a folder."""
LEAST_DB = 10.0
"""SQNR that every map of an image must reach for the image to count as agreeing with PyTorch."""


class Features:
    """See `Task`."""

    name = "features"
    metric: str | None = None
    metric_title = ""
    margin = True
    outputs: tuple[Output, ...] = MAPS
    class_logits: str | None = None
    pixel_logits: str | None = None
    cells: tuple[str, str] | None = None
    labels_hint = "weights with a head, for features have no labels"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`."""
        return without_drop(LIMITS[precision])

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: all images of a folder, whatever its sub-folders; without one rendered images."""
        from cloformer_deploy.data import RenderedImages, open_images

        return RenderedImages("test", range(RENDERED_COUNT), labeled=False) if path is None else open_images(path)

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: whether each map reaches `LEAST_DB`."""
        import numpy as np

        agreeing = np.logical_and.reduce([_near(outputs[spec.name], expected[spec.name]) for spec in MAPS])
        return [bytes([int(item)]) for item in agreeing]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`."""
        return [item[0] for item in evidence]

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`."""
        from cloformer_deploy.tasks.statistics import share_ci95

        n, agreeing = len(found), sum(item[0] for item in found)
        detail = f"every map at {LEAST_DB:g} dB or more on {agreeing} of {n} images"
        return Comparison(n, agreeing / n, share_ci95(agreeing, n), detail)

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: a map that is wrong where others are right."""
        near = {spec.name: bool(_near(found[spec.name], expected[spec.name]).all()) for spec in MAPS}
        wrong = [name for name, right in near.items() if not right]
        if wrong and len(wrong) < len(MAPS):
            right = [name for name in near if name not in wrong]
            yield f"{', '.join(wrong)}: not PyTorch's; {', '.join(right)}: as PyTorch's"


def _near(found: "NDArray[np.float32]", expected: "NDArray[np.float32]") -> "NDArray[np.bool_]":
    """Tell for each image whether a map (B, C, H, W) reaches `LEAST_DB`; not where a value is NaN or infinite."""
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):
        noise = ((found.astype(np.float64) - expected) ** 2).sum(axis=(1, 2, 3))
        signal = (expected.astype(np.float64) ** 2).sum(axis=(1, 2, 3))
        near = np.isfinite(noise) & np.isfinite(signal) & (noise * 10 ** (LEAST_DB / 10) <= signal)
    return np.asarray(near, np.bool_)
