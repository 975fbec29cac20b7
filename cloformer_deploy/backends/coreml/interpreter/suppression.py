"""The non-maximum suppression model at the end of a pipeline (NonMaximumSuppression.proto of Core ML's format)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.package_files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError, ToolError


@dataclass(frozen=True)
class Suppression:
    """Keeps, of boxes that overlap, the one of the highest confidence.

    Attributes:
        confidence: names of the input and the output with the confidence of each box and class, (n, classes).
        coordinates: names of the input and the output with the boxes, (n, 4): center, width, height.
        least_confidence: boxes whose every class is below it are left out.
        most_overlap: intersection over union above which a box is suppressed.
        per_class: only boxes with the same class of the highest confidence suppress each other.
    """

    confidence: tuple[str, str]
    coordinates: tuple[str, str]
    least_confidence: float
    most_overlap: float
    per_class: bool

    @classmethod
    def of(cls, spec: Any) -> "Suppression":
        """Read a model of the type `nonMaximumSuppression`.

        Raises:
            BundleError: names or thresholds are missing or impossible.
        """
        stored = spec.nonMaximumSuppression
        inputs = {item.name for item in spec.description.input}
        outputs = {item.name for item in spec.description.output}
        found = cls(
            confidence=(stored.confidenceInputFeatureName, stored.confidenceOutputFeatureName),
            coordinates=(stored.coordinatesInputFeatureName, stored.coordinatesOutputFeatureName),
            least_confidence=stored.confidenceThreshold,
            most_overlap=stored.iouThreshold,
            per_class=stored.pickTop.perClass,
        )
        for read, written in (found.confidence, found.coordinates):
            if read not in inputs or written not in outputs:
                names = f"{shown(read)} and {shown(written)}"
                raise BundleError(f"the suppression model lacks the input or output {names}", EXPORT_AGAIN)
        if not (0 <= found.least_confidence <= 1 and 0 <= found.most_overlap <= 1):
            both = f"{found.least_confidence:g} and {found.most_overlap:g}"
            raise BundleError(f"the suppression model has the thresholds {both}, outside of 0 to 1", EXPORT_AGAIN)
        return found

    def run(self, values: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """Return the confidences and the boxes that are kept, the highest confidence first, by output name.

        Args:
            values: what the models before it computed, by name.

        Raises:
            ToolError: the arrays do not fit together.
        """
        confidence, boxes = (np.asarray(values[name], np.float32) for name, _ in (self.confidence, self.coordinates))
        if confidence.ndim != 2 or boxes.shape != (len(confidence), 4):
            shapes = f"{list(confidence.shape)} and {list(boxes.shape)}"
            raise ToolError(
                f"the suppression model got arrays of shape {shapes}, not [n, classes] and [n, 4]", EXPORT_AGAIN
            )
        best = confidence.max(axis=1, initial=-math.inf)
        kinds = confidence.argmax(axis=1) if self.per_class and confidence.size else np.zeros(len(boxes), np.int64)
        left = np.argsort(-best, kind="stable")
        left = left[best[left] >= self.least_confidence]
        kept: list[int] = []
        while left.size:
            first, left = int(left[0]), left[1:]
            kept.append(first)
            same = kinds[left] == kinds[first]
            left = left[~(same & (overlaps(boxes[first], boxes[left]) > self.most_overlap))]
        return {self.confidence[1]: confidence[kept], self.coordinates[1]: boxes[kept]}


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the intersection over union of a box (4,) with others (n, 4), each center, width, height; (n,)."""
    center, size = box[:2].astype(np.float64), box[2:].astype(np.float64)
    centers, sizes = others[:, :2].astype(np.float64), others[:, 2:].astype(np.float64)
    low = np.maximum(center - size / 2, centers - sizes / 2)
    high = np.minimum(center + size / 2, centers + sizes / 2)
    common = np.maximum(high - low, 0).prod(axis=1)
    union = size.prod() + sizes.prod(axis=1) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))
