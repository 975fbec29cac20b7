"""Drift image by image: intervals, what a class lost, and what so many images can tell at all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.validation.drift import SQNR_CEILING_DB, Z95, Drift

Interval = tuple[float, float]
"""The ends of a two-sided 95 % interval."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class ClassDrift:
    """One class: its images, how many PyTorch had right and the artifact has not, and the other way round.

    `p_value` is of the exact McNemar test, times the number of classes with any such image (Bonferroni).
    """

    index: int
    n: int
    lost: int
    gained: int
    p_value: float


@dataclass
class Paired(Drift):
    """See `Drift`; of each image, in order, it also keeps whether both agree, and who is right.

    Attributes:
        agrees: by batch, (B,) bool: the same first class, and finite logits.
        right: by batch, (B,) bool, or nothing without labels.
    """

    agrees: list[NDArray[np.bool_]] = field(default_factory=list)
    right: list[NDArray[np.bool_]] = field(default_factory=list)
    _reference_right: list[NDArray[np.bool_]] = field(default_factory=list)
    _labels: list[NDArray[np.int64]] = field(default_factory=list)
    _signals: list[NDArray[np.float64]] = field(default_factory=list)
    _noises: list[NDArray[np.float64]] = field(default_factory=list)
    _divergence: float = 0.0
    first_non_finite: int | None = None
    """The place of the first image without finite logits."""

    def update(
        self, reference: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[np.int64] | None
    ) -> None:
        """See `Drift.update`."""
        finite = np.isfinite(logits).all(axis=1)
        if self.first_non_finite is None and not finite.all():
            self.first_non_finite = self.n + int(finite.argmin())
        super().update(reference, logits, labels)
        expected, predicted = reference.argmax(axis=1), logits.argmax(axis=1)
        self.agrees.append((expected == predicted) & finite & np.isfinite(reference).all(axis=1))
        if labels is not None:
            self._labels.append(labels)
            self._reference_right.append(expected == labels)
            self.right.append((predicted == labels) & finite)

    def _measure(self, reference: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
        super()._measure(reference, logits)
        centered = reference - reference.mean(axis=1, keepdims=True)
        found = logits - logits.mean(axis=1, keepdims=True)
        self._signals.append((centered**2).sum(axis=1))
        self._noises.append(((centered - found) ** 2).sum(axis=1))
        log_p, log_q = (values - _log_sum_exp(values) for values in (reference, logits))
        self._divergence += float((np.exp(log_p) * (log_p - log_q)).sum())

    @property
    def kl_divergence(self) -> float:
        """Mean Kullback-Leibler divergence of the artifact's class probabilities from PyTorch's, nats."""
        return self._divergence / (self.n - self.non_finite)

    def agreement_ci95(self) -> Interval:
        """Exact interval of the agreement (Clopper and Pearson 1934), 0..1."""
        from scipy.stats import binomtest

        found = binomtest(self.agreeing, self.n).proportion_ci(0.95, "exact")
        return float(found.low), float(found.high)

    def sqnr_ci95_db(self) -> Interval:
        """Interval of the SQNR over resampled images (percentile bootstrap, seeded), dB."""
        from scipy.stats import bootstrap

        signal, noise = np.concatenate(self._signals), np.concatenate(self._noises)
        if len(signal) < 2 or not noise.any() or not signal.any():
            return self.sqnr_db, self.sqnr_db

        def sqnr(s: NDArray[np.float64], n: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
            with np.errstate(divide="ignore"):
                found: NDArray[np.float64] = 10 * np.log10(s.sum(axis=axis) / n.sum(axis=axis))
            return np.clip(found, -SQNR_CEILING_DB, SQNR_CEILING_DB)

        found = bootstrap(
            (signal, noise), sqnr, n_resamples=_RESAMPLES, paired=True, method="percentile", batch=100, rng=0
        ).confidence_interval
        return float(found.low), float(found.high)

    def classes(self) -> Iterator[ClassDrift]:
        """Each class with a image that only one of the two has right; the surest loss first."""
        from scipy.stats import binomtest

        if not self._labels:
            return
        labels = np.concatenate(self._labels)
        before, after = np.concatenate(self._reference_right), np.concatenate(self.right)
        changed = np.unique(labels[before != after])
        found = []
        for index in changed:
            mine = labels == index
            lost, gained = int((mine & before & ~after).sum()), int((mine & ~before & after).sum())
            p_value = min(1.0, binomtest(lost, lost + gained).pvalue * len(changed))
            found.append(ClassDrift(int(index), int(mine.sum()), lost, gained, p_value))
        yield from sorted(found, key=lambda item: (item.p_value, item.gained - item.lost))

    def smallest_drop_pp(self) -> float:
        """The drop against PyTorch that as many images just tell from none, as often as both differ, pp."""
        low, high = self.top1_drop_ci95_pp()
        return (high - low) / 2

    def images_for(self, drop_pp: float) -> int:
        """How many images it takes to tell a drop of so many percentage points from none."""
        discordant = (self.lost + self.gained + 2) / (self.labeled + 2)
        return math.ceil(Z95**2 * discordant / (drop_pp / 100) ** 2)


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = values.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = largest + np.log(np.exp(values - largest).sum(axis=1, keepdims=True))
    return found
