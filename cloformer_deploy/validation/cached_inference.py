"""Results per image, looked up in a cache by all that they depend on, and computed only where the cache lacks them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Dataset, Preprocessing
from cloformer_deploy.data.batches import LOADING_THREADS
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.inference import rows

BATCH_SIZE = 16
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """A source of results.

    Attributes:
        key: of everything that a result depends on beside the image at the input's size.
        run: returns one result per image of a lot.
    """

    key: bytes
    run: Callable[["Lot"], Sequence[bytes]]


@dataclass(frozen=True)
class Lot:
    """Images whose results are computed.

    Attributes:
        pixels: (B, 3, H, W), RGB uint8.
        truths: what is right in each image, see `Batch.truths`; None without.
        prepared: what `prepare` returned for the images.
    """

    pixels: Pixels
    truths: Sequence[NDArray[Any]] | None = None
    prepared: Outputs = field(default_factory=dict)

    def select(self, indices: Sequence[int]) -> "Lot":
        """Return some of the images."""
        truths = None if self.truths is None else [self.truths[index] for index in indices]
        return Lot(self.pixels[list(indices)], truths, rows(self.prepared, indices))


def results(
    images: Dataset,
    preprocessing: Preprocessing,
    subjects: Sequence[Subject],
    cache: Cache | None,
    prepare: Callable[[Pixels], Outputs] = lambda pixels: {},  # noqa: ARG005
) -> Iterator[tuple[range, list[list[bytes]]]]:
    """Yield the indices of some images and each subject's results for them, until all images are done, in order.

    New results are stored batch by batch, so that a run after a kill goes on from there.

    Args:
        images: the images.
        preprocessing: the model's.
        subjects: run side by side on the images whose results they lack.
        cache: where results are looked up and kept; None computes all of them.
        prepare: is called first, alone, with the images of a batch that any subject lacks a result of.

    Raises:
        DataError: an image cannot be used.
    """
    total = len(images)
    places = [range(first, min(first + BATCH_SIZE, total)) for first in range(0, total, BATCH_SIZE)]
    looked_up = partial(_looked_up, images, preprocessing, subjects, cache)
    with (
        ThreadPoolExecutor(1) as ahead,
        ThreadPoolExecutor(LOADING_THREADS) as loaders,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        coming = ahead.submit(looked_up, places[0], loaders)
        for place, following in zip(places, [*places[1:], None], strict=True):
            known = coming.result()
            if following is not None:
                coming = ahead.submit(looked_up, following, loaders)
            if known.lacking:
                known.lot = replace(known.lot, prepared=prepare(known.lot.pixels))
            found = list(pool.map(known.completed, range(len(subjects))))
            if cache is not None and known.new:
                cache.put(known.new)
            yield place, found


def _looked_up(
    images: Dataset,
    preprocessing: Preprocessing,
    subjects: Sequence[Subject],
    cache: Cache | None,
    place: range,
    loaders: ThreadPoolExecutor,
) -> "_Batch":
    names = [str(index) for index in place]
    known: Mapping[bytes, bytes] = {}
    if cache is not None:
        size = preprocessing.model_dump_json()
        names = [key(images.identity(index), size).hex() for index in place]
    keys = [[key(subject.key, name) for name in names] for subject in subjects]
    if cache is not None:
        known = cache.get(item for row in keys for item in row)
    lacking = [index for index in range(len(place)) if any(row[index] not in known for row in keys)]
    lot = Lot(np.empty((0,), np.uint8))
    if lacking:
        loaded = list(loaders.map(lambda index: _loaded(images, place[index], preprocessing), lacking))
        truths = [truth for _, truth in loaded if truth is not None]
        lot = Lot(np.stack([pixels for pixels, _ in loaded]), truths or None)
    return _Batch(subjects, keys, known, lacking, lot)


def _loaded(images: Dataset, index: int, preprocessing: Preprocessing) -> tuple[Pixels, NDArray[Any] | None]:
    return images.load(index, preprocessing), images.truth(index, preprocessing)


@dataclass
class _Batch:
    """A batch: keys of each subject's results, the results that were found, and the images that lack one."""

    subjects: Sequence[Subject]
    keys: Sequence[Sequence[bytes]]
    known: Mapping[bytes, bytes]
    lacking: Sequence[int]
    lot: Lot
    new: dict[bytes, bytes] = field(default_factory=dict)

    def completed(self, subject: int) -> list[bytes]:
        """Return all results of a subject, which is run on the images that it lacks."""
        keys = self.keys[subject]
        wanted = [at for at, index in enumerate(self.lacking) if keys[index] not in self.known]
        made: dict[bytes, bytes] = {}
        if wanted:
            found = self.subjects[subject].run(self.lot.select(wanted))
            made = {keys[self.lacking[at]]: result for at, result in zip(wanted, found, strict=True)}
            self.new.update(made)
        return [made[name] if name in made else self.known[name] for name in keys]
