"""Named tensors of a network of one's own, judged by the distances of each from PyTorch's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.tasks.base import Comparison, Output, Outputs, Truths
from cloformer_deploy.tasks.limits import LIMITS, without_drop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloformer_deploy.data import Dataset

RENDERED_COUNT = 16
"""Rendered images that are used without a folder."""
LEAST_DB = 10.0
"""SQNR that every output of an image must reach for the image to count as agreeing with PyTorch."""
COSINES: Mapping[str, float] = {"fp32": 0.99999, "fp16": 0.9995, "w8": 0.99}
"""Least cosine of any output of any image, by precision; see `OTHER_COSINE`."""
OTHER_COSINE = 0.95
_AXES_OF = {
    2: ("batch", "values"),
    3: ("batch", "rows", "values"),
    4: ("batch", "channels", "height", "width"),
}
_FIGURES = 4


class Tensors:
    """See `Task`. Its outputs are those of a bundle: the entry in the registry has none.

    Args:
        interface: name and number of axes of each output, in order.
    """

    name = "tensors"
    metric: str | None = None
    metric_title = ""
    margin = False
    class_logits: str | None = None
    pixel_logits: str | None = None
    cells: tuple[str, str] | None = None
    labels_hint = "outputs of a known task (--task), for tensors have no labels"

    def __init__(self, interface: Sequence[tuple[str, int]] = ()) -> None:
        self.outputs: tuple[Output, ...] = tuple(Output(name, _AXES_OF[rank], name) for name, rank in interface)

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`; beside them `cosine_min`, at least."""
        return {**without_drop(LIMITS[precision]), "cosine_min": COSINES.get(precision, OTHER_COSINE)}

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: all images of a folder, whatever its sub-folders; without one rendered images."""
        from cloformer_deploy.data import RenderedImages, open_images

        return RenderedImages("test", range(RENDERED_COUNT), labeled=False) if path is None else open_images(path)

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: signal, noise, largest difference and cosine of each output."""
        import numpy as np

        figures = np.stack([_figures(outputs[spec.name], expected[spec.name]) for spec in self.outputs], axis=1)
        return [row.tobytes() for row in figures]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`."""
        return [True for _ in evidence]

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`; the detail has the figures of each output."""
        import numpy as np

        from cloformer_deploy.tasks.distances import sqnr_db
        from cloformer_deploy.tasks.statistics import share_ci95

        rows = np.stack([np.frombuffer(item).reshape(-1, _FIGURES) for item in found])
        signal, noise, largest, cosine = (rows[:, :, place] for place in range(_FIGURES))
        right = np.isfinite(rows).all(axis=2) & (noise * 10 ** (LEAST_DB / 10) <= signal)
        near = [bool(row.all()) for row in right]
        n, agreeing = len(near), sum(near)
        told = [
            f"{spec.name} {sqnr_db(float(signal[:, place].sum()), float(noise[:, place].sum())):.1f} dB, "
            f"largest difference {float(largest[:, place].max()):.1e}, cosine {float(cosine[:, place].min()):.6f}"
            for place, spec in enumerate(self.outputs)
        ]
        detail = f"every output at {LEAST_DB:g} dB or more on {agreeing} of {n} images ({'; '.join(told)})"
        return Comparison(n, agreeing / n, share_ci95(agreeing, n), detail)

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: outputs that are wrong where others are right, or each other's."""
        near = {spec.name: bool(_near(found[spec.name], expected[spec.name])) for spec in self.outputs}
        wrong = [name for name, right in near.items() if not right]
        for name in wrong:
            other = [item for item in near if item != name and found[name].shape == expected[item].shape]
            taken = [item for item in other if _near(found[name], expected[item])]
            if taken:
                yield f"{name}: has the numbers of PyTorch's {taken[0]}"
        if wrong and len(wrong) < len(near):
            right = [name for name in near if name not in wrong]
            yield f"{', '.join(wrong)}: not PyTorch's; {', '.join(right)}: as PyTorch's"


def _figures(found: "NDArray[np.float32]", expected: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return signal, noise, largest difference and cosine of each image, (B, 4), float64."""
    import numpy as np

    ours, theirs = (item.reshape(len(item), -1).astype(np.float64) for item in (found, expected))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        signal, noise = (theirs**2).sum(axis=1), ((ours - theirs) ** 2).sum(axis=1)
        norms = np.sqrt(signal * (ours**2).sum(axis=1))
        cosine = np.where(norms > 0, (ours * theirs).sum(axis=1) / norms, (noise == 0).astype(np.float64))
        return np.stack([signal, noise, np.abs(ours - theirs).max(axis=1), cosine], axis=1)


def _near(found: "NDArray[np.float32]", expected: "NDArray[np.float32]") -> bool:
    """Tell whether an output of all images together reaches `LEAST_DB`."""
    signal, noise = _figures(found, expected)[:, :2].sum(axis=0)
    return bool(noise * 10 ** (LEAST_DB / 10) <= signal)
