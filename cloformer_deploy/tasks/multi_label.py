"""Multi-label classification: one logit per class, each judged by its sigmoid alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.tasks.base import Comparison, Output, Outputs, Truths
from cloformer_deploy.tasks.classification import LOGITS, Classification
from cloformer_deploy.tasks.limits import LIMITS, without_drop

if TYPE_CHECKING:
    from cloformer_deploy.data import Dataset

ABSOLUTE_LOGITS = replace(LOGITS, description="one value per class, before the sigmoid", centered=False)
_NOT_FINITE = 255
"""Stands for all decisions of an image whose logits, or PyTorch's, hold NaN or infinity."""


class MultiLabel(Classification):
    """See `Task`. A class is present where its logit is positive.

    The logits are absolute: what is added to all of them changes decisions. Images have no labels, because a folder has
    one class per image.
    """

    metric: str | None = None
    metric_title = ""
    outputs: tuple[Output, ...] = (ABSOLUTE_LOGITS,)
    labels_hint = "weights whose scores are a softmax: a multi-label task has no labeled data here"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`."""
        return without_drop(LIMITS[precision])

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: all images of a folder, whatever its sub-folders; without one rendered images."""
        from cloformer_deploy.data import RenderedImages, open_images
        from cloformer_deploy.tasks.classification import UNLABELED_COUNT

        return RenderedImages("test", range(UNLABELED_COUNT), labeled=False) if path is None else open_images(path)

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: the decision on each class."""
        import numpy as np

        from cloformer_deploy.tasks.distances import finite_images

        finite = finite_images(outputs, self.outputs) & finite_images(expected, self.outputs)
        decisions = np.where(finite[:, None], outputs[LOGITS.name] > 0, _NOT_FINITE).astype(np.uint8)
        return [item.tobytes() for item in decisions]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`."""
        return list(evidence)

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`: the agreement is the share of the decisions on all classes of all images."""
        import numpy as np

        from cloformer_deploy.tasks.statistics import mean_share_ci95

        n = len(found)
        before, after = (np.frombuffer(b"".join(each), np.uint8).reshape(n, -1) for each in (expected, found))
        same = (before == after) & (after != _NOT_FINITE)
        shares = same.mean(axis=1)
        detail = f"the same decision as PyTorch on {int(same.sum())} of {same.size} classes of {n} images"
        return Comparison(n, float(shares.mean()), mean_share_ci95(shares.tolist()), detail)

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: classes in another order, or all logits moved by one value."""
        import numpy as np

        yield from super().diagnose(expected, found, labels)
        moved = found[LOGITS.name].astype(np.float64) - expected[LOGITS.name]
        offset, left = float(moved.mean()), float(moved.std())
        if abs(offset) > 10 * left and abs(offset) > 0.1:
            yield f"all logits are moved by {offset:+.2f} (standard deviation of the rest: {left:.2g})"
