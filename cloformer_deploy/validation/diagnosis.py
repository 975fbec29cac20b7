"""What explains an artifact's logits: mistakes of preprocessing, of labels and of numbers, each tested on images.

A mistake is named if PyTorch, making it too, gives the artifact's logits, and without it does not. Noise of int8 and
faults of layers make no hypothesis fit, so nothing is named of them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.validation.drift import Drift

LEAST_SQNR_DB = 10.0
"""What PyTorch with the mistake must reach at least. An int8 file fed what it was not calibrated for reaches 11 dB."""
LEAST_GAIN_DB = 3.0
"""By how much it must be nearer than PyTorch without the mistake. In 924 damaged copies of a trained xxs, none was
more than 1.2 dB nearer to a mistake above 6 dB; the mildest mistake, BGR at 20 dB, shows through int8's noise."""
LEAST_LABEL_GAIN_DB = 6.0
"""The same of classes in another place: of all orders the one that fits best is tried, and noise always fits one."""
SOUND_DB = 40.0
"""Nothing of the preprocessing is in doubt from here on: the mildest mistake is at 21 dB."""
CONSTANT = 1e-4
"""Logits vary less than this share of how PyTorch's vary from image to image: they do not depend on the image."""

Logits = NDArray[np.float32]
Reference = Callable[[NDArray[np.float32]], Logits]


def diagnose(
    reference: Reference,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    logits: Logits,
    labels: Sequence[str] | None = None,
) -> list[str]:
    """Name what explains an artifact's logits, one sentence each; nothing of a healthy or merely noisy file.

    About 32 images of many classes are enough; with a single one only NaN and infinity are told.

    Args:
        reference: PyTorch's logits (B, classes) of normalized images (B, 3, H, W), float32.
        preprocessing: what the artifact should have been fed.
        pixels: the images (B, 3, H, W), RGB uint8.
        logits: the artifact's, of the same images (B, classes).
        labels: names of the classes.
    """
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    found = list(_non_finite(logits, finite))
    pixels, logits = pixels[finite], logits[finite]
    if len(pixels) < 2:
        return found
    expected = reference(preprocessing.normalize(pixels))
    constant = _constant(expected, logits)
    if constant is not None:
        return [*found, constant]
    found += _permuted(expected, logits, labels)
    found += _preprocessed(reference, preprocessing, pixels, expected, logits)
    return found


def _non_finite(logits: Logits, finite: NDArray[np.bool_]) -> Iterator[str]:
    for what, bad in (("NaN", np.isnan(logits)), ("infinite", np.isinf(logits))):
        affected = np.flatnonzero(bad.any(axis=1))
        if affected.size:
            yield f"{what} logits on {affected.size} of {len(finite)} images, the first is image {affected[0]}"


def _constant(expected: Logits, logits: Logits) -> str | None:
    varies, should = (float(_centered(each).std(axis=0).max()) for each in (logits, expected))
    if varies > CONSTANT * should or should == 0:
        return None
    return (
        f"the output is constant: over {len(logits)} images no logit deviates by more than {varies:.1g} (standard "
        f"deviation), PyTorch's by {should:.2g}"
    )


def _permuted(expected: Logits, logits: Logits, labels: Sequence[str] | None) -> Iterator[str]:
    """Whether the artifact's columns are PyTorch's in another order."""
    order = _order(expected, logits)
    moved = np.flatnonzero(order != np.arange(len(order)))
    if not moved.size:
        return
    right, permuted = _drift(expected, logits), _drift(expected[:, order], logits)
    shift = -int(order[0]) % len(order)
    if np.array_equal(order, np.roll(np.arange(len(order)), shift)):
        what = f"the labels are rotated by {shift}: class i of PyTorch is {shift} further in the file"
    else:
        names = [str(index) if labels is None else labels[index] for index in range(len(order))]
        places = [f"{names[column]} holds {names[order[column]]}" for column in moved]
        what = f"{len(moved)} classes are permuted: " + ", ".join(places[:8]) + (", ..." if len(places) > 8 else "")
        if len(moved) == 2:
            what = f"the classes {names[moved[0]]} and {names[moved[1]]} are swapped"
    yield _sentence(what, "in that order", "in its own", permuted, right)


def _order(expected: Logits, logits: Logits) -> NDArray[np.intp]:
    """Of each column of the artifact the column of PyTorch that it holds, where that explains it clearly better."""
    from scipy.optimize import linear_sum_assignment

    ours, theirs = _centered(expected), _centered(logits)
    squares = (theirs**2).sum(axis=0)[:, None] + (ours**2).sum(axis=0)
    order = linear_sum_assignment(np.maximum(squares - 2 * theirs.T @ ours, 0))[1]
    kept = np.arange(len(order))
    for cycle in _cycles(order):
        # Each on its own: noise may exchange classes that are alike anyway, beside others that were truly moved.
        signal = float((ours[:, cycle] ** 2).sum())
        before = float(((theirs[:, cycle] - ours[:, cycle]) ** 2).sum())
        after = float(((theirs[:, cycle] - ours[:, order[cycle]]) ** 2).sum())
        if before > 0 and after <= min(signal / _ratio(LEAST_SQNR_DB), before / _ratio(LEAST_LABEL_GAIN_DB)):
            kept[cycle] = order[cycle]
    return kept


def _cycles(order: NDArray[np.intp]) -> Iterator[list[int]]:
    """Of a permutation, those of more than one element."""
    left = set(np.flatnonzero(order != np.arange(len(order))).tolist())
    while left:
        cycle = [min(left)]
        while (following := int(order[cycle[-1]])) != cycle[0]:
            cycle.append(following)
        left -= set(cycle)
        yield cycle


def _preprocessed(
    reference: Reference, preprocessing: Preprocessing, pixels: NDArray[np.uint8], expected: Logits, logits: Logits
) -> Iterator[str]:
    """The mistake of preprocessing that explains the artifact best, if one does."""
    right = _drift(expected, logits)
    if right.sqnr_db >= SOUND_DB:
        return
    tried = []
    for what, how, images in _mistakes(preprocessing, pixels):
        theirs = reference(images)
        if np.isfinite(theirs).all():
            tried.append((_drift(theirs, logits), what, how))
    wrong, what, how = max(tried, key=lambda item: item[0].sqnr_db)
    if wrong.sqnr_db >= max(LEAST_SQNR_DB, right.sqnr_db + LEAST_GAIN_DB):
        yield _sentence(what, how, "without", wrong, right)


def _mistakes(
    preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """What a file may be wrongly fed: what to say of it, how PyTorch was fed, and these images (B, 3, H, W)."""
    mean, std = (np.asarray(each, np.float32).reshape(3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    images, raw = preprocessing.normalize(pixels), pixels.astype(np.float32)
    yield "the file takes BGR", "with the channels swapped", images[:, ::-1].copy()
    swapped = preprocessing.normalize(pixels[:, ::-1])
    yield "the file takes BGR", "with the channels swapped before mean and deviation", swapped
    yield "the images are normalized twice", "with mean and deviation applied twice", (images - mean) / std
    yield "mean and deviation are left out", "on pixels of 0 to 1", raw / np.float32(255)
    yield "the images are not normalized", "on pixels of 0 to 255", raw
    yield "the images are flipped left to right", "on such images", images[..., ::-1].copy()
    yield "the images are upside down", "on such images", images[:, :, ::-1].copy()
    if preprocessing.height == preprocessing.width:
        transposed = images.swapaxes(2, 3).copy()
        yield "the images are transposed", "with rows and columns exchanged", transposed


def _sentence(what: str, how: str, otherwise: str, wrong: Drift, right: Drift) -> str:
    return (
        f"{what}: {how} PyTorch agrees on {wrong.top1_agreement:.0%} of {wrong.n} images ({wrong.sqnr_db:.1f} dB), "
        f"{otherwise} on {right.top1_agreement:.0%} ({right.sqnr_db:.1f} dB)"
    ).replace("%", " %")


def _drift(expected: Logits, logits: Logits) -> Drift:
    drift = Drift()
    drift.update(expected, logits, None)
    return drift


def _centered(logits: Logits) -> NDArray[np.float64]:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True, dtype=np.float64), np.float64)


def _ratio(db: float) -> float:
    return float(10 ** (db / 10))
