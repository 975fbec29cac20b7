"""Comparisons of artificial logits with known numbers of lost and gained images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloformer_deploy.tasks import Comparison
from tests.tasks.comparing import compared, evidence

CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A comparison and what it was made of: the evidence of both sides, and the right classes or None."""

    comparison: Comparison
    expected: Sequence[bytes]
    evidence: Sequence[bytes]
    targets: Sequence[int] | None


def case(
    n: int,
    *,
    lost: int = 0,
    gained: int = 0,
    noise: float = 0.02,
    labeled: bool = True,
    broken: float | None = None,
    start: int = 0,
) -> Case:
    """Return the comparison of n images of an artificial data set.

    Args:
        n: number of images.
        lost: number of images, from the first on, on which the artifact names a wrong class.
        gained: number of images, up to the last, on which PyTorch names a wrong class.
        noise: standard deviation of the noise on the artifact's logits; the largest logit of each image is 1.
        labeled: false leaves the labels out.
        broken: a logit of the last image, such as NaN.
        start: index of the first image in the data set.
    """
    rng = np.random.default_rng(n)
    labels = np.random.default_rng(0).integers(0, CLASSES, 10_000)[start : start + n]
    expected = np.eye(CLASSES, dtype=np.float32)[labels]
    wrong = np.eye(CLASSES, dtype=np.float32)[(labels + 1) % CLASSES]
    found = expected.copy()
    found[:lost] = wrong[:lost]
    if gained:
        expected[-gained:] = wrong[-gained:]
    found = found + noise * rng.standard_normal(found.shape).astype(np.float32)
    if broken is not None:
        found[-1, 3] = broken
    comparison = compared(expected, found, labels if labeled else None)
    targets = labels.tolist() if labeled else None
    return Case(comparison, evidence(expected, expected), evidence(found, expected), targets)
