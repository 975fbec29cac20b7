"""How far an artifact's logits are from PyTorch's, on the same images, accumulated batch by batch."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SQNR_CEILING_DB = 200.0
"""Reported where the logits are equal to the last bit (infinity is no JSON number)."""


Z95 = NormalDist().inv_cdf(0.975)


@dataclass
class Drift:
    """Running sums over images. `update` adds a batch; everything else reads.

    Cosine and SQNR are over the mean-centered logits of each image: a constant added to all logits
    changes no prediction, and would hide in an uncentred cosine near 1. ImageSet whose logits are not all
    finite count as disagreeing and wrong, and are left out of the distances.
    """

    n: int = 0
    non_finite: int = 0
    agreeing: int = 0
    labeled: int = 0
    reference_correct: int = 0
    correct: int = 0
    lost: int = 0
    gained: int = 0
    max_abs_diff: float = 0.0
    cosine_min: float = 1.0
    _signal: float = 0.0
    _noise: float = 0.0

    def update(
        self, reference: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[np.int64] | None
    ) -> None:
        """Add a batch: logits of PyTorch and of the artifact, each (B, classes), and labels (B,) or None."""
        finite = np.isfinite(logits).all(axis=1) & np.isfinite(reference).all(axis=1)
        expected, predicted = reference.argmax(axis=1), logits.argmax(axis=1)
        self.n += len(logits)
        self.non_finite += int((~finite).sum())
        self.agreeing += int(((expected == predicted) & finite).sum())
        if labels is not None:
            before, after = expected == labels, (predicted == labels) & finite
            self.labeled += len(labels)
            self.reference_correct += int(before.sum())
            self.correct += int(after.sum())
            self.lost += int((before & ~after).sum())
            self.gained += int((~before & after).sum())
        if finite.any():
            self._measure(reference[finite].astype(np.float64), logits[finite].astype(np.float64))

    def _measure(self, reference: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
        self.max_abs_diff = max(self.max_abs_diff, float(np.abs(reference - logits).max()))
        centered = reference - reference.mean(axis=1, keepdims=True)
        found = logits - logits.mean(axis=1, keepdims=True)
        self._signal += float((centered**2).sum())
        self._noise += float(((centered - found) ** 2).sum())
        norms = np.linalg.norm(centered, axis=1) * np.linalg.norm(found, axis=1)
        products = (centered * found).sum(axis=1)
        # Constant logits point nowhere: alike where both are constant (a single class), else at a right angle.
        alike = ~centered.any(axis=1) & ~found.any(axis=1)
        cosines = np.divide(products, norms, out=alike.astype(np.float64), where=norms > 0)
        self.cosine_min = min(self.cosine_min, float(cosines.min()))

    @property
    def measured(self) -> bool:
        """Whether any image gave finite logits on both sides, so that the distances mean something."""
        return self.n > self.non_finite

    @property
    def top1_agreement(self) -> float:
        """Share of images with the same first class as PyTorch, 0..1."""
        return self.agreeing / self.n

    @property
    def sqnr_db(self) -> float:
        """Signal-to-noise ratio of the centered logits over all images, dB."""
        if self._noise == 0:
            return SQNR_CEILING_DB
        if self._signal == 0:
            return -SQNR_CEILING_DB
        return min(10 * math.log10(self._signal / self._noise), SQNR_CEILING_DB)

    @property
    def top1_drop_pp(self) -> float:
        """How much top-1 fell against PyTorch, percentage points (negative: rose)."""
        return 100 * (self.lost - self.gained) / self.labeled

    def top1_drop_ci95_pp(self) -> tuple[float, float]:
        """95 % interval of that; see `paired_difference_ci95_pp`."""
        return paired_difference_ci95_pp(self.lost, self.gained, self.labeled)


def paired_difference_ci95_pp(lost: int, gained: int, n: int) -> tuple[float, float]:
    """Interval of the paired difference of two shares, (lost - gained) / n, percentage points.

    The adjusted Wald interval of Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data", J. Educ. Behav. Stat. 37 (2012): one pseudo-count in each discordant cell, so
    that no disagreement at all still leaves a width.
    """
    total = n + 2
    first, second = (lost + 1) / total, (gained + 1) / total
    difference = first - second
    half = Z95 * math.sqrt((first + second - difference**2) / total)
    return 100 * max(difference - half, -1.0), 100 * min(difference + half, 1.0)
