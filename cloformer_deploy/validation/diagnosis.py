"""Diagnose a failed artifact: which mistake of preprocessing, of labels, of layers or of numbers explains its outputs.

A mistake is named if PyTorch, making the same mistake, gives the artifact's outputs, and without it does not. The noise
of quantization and faults of weights fit no such hypothesis, so nothing is named for them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.tasks import Outputs, Task
from cloformer_deploy.tasks.distances import compared, finite_images, sqnr_db
from cloformer_deploy.validation.inference import rows

LEAST_SQNR_DB = 10.0
"""SQNR that PyTorch with the mistake must reach. An int8 file fed what it was not calibrated for reaches 11 dB."""
LEAST_GAIN_DB = 3.0
"""Gain that PyTorch with the mistake must have over PyTorch without it. In 924 damaged copies of a trained xxs none was
more than 1.2 dB nearer to a mistake above 6 dB; the mildest mistake, BGR at 20 dB, shows through int8's noise."""
SOUND_DB = 40.0
"""From this SQNR on, the preprocessing is not in doubt: the mildest mistake is at 21 dB."""
CONSTANT = 1e-4
"""Outputs that vary from image to image by less than this share of PyTorch's variation do not depend on the image."""

Reference = Callable[[NDArray[np.float32]], Outputs]


def diagnose(
    task: Task,
    reference: Reference,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    found: Outputs,
    labels: Sequence[str] | None = None,
    mistaken: Iterable[tuple[str, Reference]] = (),
) -> list[str]:
    """Name what explains an artifact's outputs, one sentence each; nothing for a sound or merely noisy file.

    About 32 images of many classes are enough; with a single one only NaN and infinity are reported.

    Args:
        task: the task of the outputs.
        reference: returns PyTorch's outputs of normalized images (B, 3, H, W), float32.
        preprocessing: what the artifact should have been fed.
        pixels: the images (B, 3, H, W), RGB uint8.
        found: the artifact's outputs of the same images.
        labels: names of the classes.
        mistaken: PyTorch with a mistake in its layers, like `reference`, each with the mistake in words; looked at
            only if the outputs are wrong.
    """
    finite = finite_images(found, task.outputs)
    causes = list(_non_finite(task, found, finite))
    kept = np.flatnonzero(finite).tolist()
    pixels, found = pixels[finite], rows(found, kept)
    if len(pixels) < 2:
        return causes
    expected = reference(preprocessing.normalize(pixels))
    constant = _constant(task, expected, found)
    if constant is not None:
        return [*causes, constant]
    causes += task.diagnose(expected, found, labels)
    if _db(task, expected, found) < SOUND_DB:
        causes += _explained(task, reference, preprocessing, pixels, expected, found, mistaken)
    return causes


def _non_finite(task: Task, found: Outputs, finite: NDArray[np.bool_]) -> Iterator[str]:
    for spec in task.outputs:
        values = found[spec.name].reshape(len(finite), -1)
        for what, bad in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
            affected = np.flatnonzero(bad.any(axis=1))
            if affected.size:
                yield f"{what} {spec.name} on {affected.size} of {len(finite)} images, the first is image {affected[0]}"


def _constant(task: Task, expected: Outputs, found: Outputs) -> str | None:
    varies, should = (float(compared(each, task.outputs).std(axis=0).max()) for each in (found, expected))
    if varies > CONSTANT * should or should == 0:
        return None
    count = len(next(iter(found.values())))
    return (
        f"the output is constant: over {count} images no value deviates by more than {varies:.1g} (standard "
        f"deviation), PyTorch's by {should:.2g}"
    )


def _explained(
    task: Task,
    reference: Reference,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    expected: Outputs,
    found: Outputs,
    mistaken: Iterable[tuple[str, Reference]],
) -> Iterator[str]:
    """Yield the mistake of preprocessing or of layers that explains the artifact best, if one does."""
    right = _db(task, expected, found)
    outputs = [(what, how, reference(images)) for what, how, images in _mistakes(preprocessing, pixels)]
    outputs += [(what, "with that", wrong(preprocessing.normalize(pixels))) for what, wrong in mistaken]
    tried = [
        (_db(task, theirs, found), what, how, theirs)
        for what, how, theirs in outputs
        if finite_images(theirs, task.outputs).all()
    ]
    wrong_db, what, how, theirs = max(tried, key=lambda item: item[0])
    if wrong_db >= max(LEAST_SQNR_DB, right + LEAST_GAIN_DB):
        yield f"{what}: {how} {_told(task, theirs, found)}, without {_told(task, expected, found, short=True)}"


def _mistakes(
    preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Yield mistakes: the mistake in words, how PyTorch was fed, and the images it was fed (B, 3, H, W)."""
    mean, std = (np.asarray(each, np.float32).reshape(-1, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    images, raw = preprocessing.normalize(pixels), pixels.astype(np.float32)
    if preprocessing.channels >= 3:
        order = [2, 1, 0, *range(3, preprocessing.channels)]
        yield "the file takes BGR", "with the channels swapped", images[:, order]
        swapped = preprocessing.normalize(pixels[:, order])
        yield "the file takes BGR", "with the channels swapped before mean and deviation", swapped
    yield "the images are normalized twice", "with mean and deviation applied twice", (images - mean) / std
    yield "mean and deviation are left out", "on pixels of 0 to 1", raw / np.float32(255)
    yield "the images are not normalized", "on pixels of 0 to 255", raw
    yield "the images are flipped left to right", "on such images", images[..., ::-1].copy()
    yield "the images are upside down", "on such images", images[:, :, ::-1].copy()
    if preprocessing.height == preprocessing.width:
        transposed = images.swapaxes(2, 3).copy()
        yield "the images are transposed", "with rows and columns exchanged", transposed


def _told(task: Task, expected: Outputs, found: Outputs, *, short: bool = False) -> str:
    before, after = task.evidence(expected, expected), task.evidence(found, expected)
    agreement = f"{task.compare(before, after, None).agreement * 100:.0f} %"
    whole = f"on {agreement}" if short else f"PyTorch agrees on {agreement} of {len(before)} images"
    return f"{whole} ({_db(task, expected, found):.1f} dB)"


def _db(task: Task, expected: Outputs, found: Outputs) -> float:
    signal, other = compared(expected, task.outputs), compared(found, task.outputs)
    return sqnr_db(float((signal**2).sum()), float(((signal - other) ** 2).sum()))
