"""Results of single images: each is looked up by what it depends on, and computed only if no cache has it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Dataset, Preprocessing
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.validation.cache import Cache, key

BATCH_SIZE = 16


@dataclass(frozen=True)
class Subject:
    """What gives results.

    Attributes:
        key: everything a result depends on, beside the image at the input's size.
        run: from images (B, 3, H, W), RGB uint8, to the result of each.
    """

    key: bytes
    run: Callable[[NDArray[np.uint8]], Sequence[bytes]]


def results(
    images: Dataset, preprocessing: Preprocessing, subjects: Sequence[Subject], cache: Cache | None
) -> Iterator[tuple[range, list[list[bytes]]]]:
    """The places of some images and what each subject gives for them, until all images are done, in order.

    The first subject has the machine to itself, the others run side by side. What is new is kept batch by batch, so
    that whoever is killed goes on from there.

    Raises:
        DataError: a image cannot be used.
    """
    total = len(images)
    places = [range(first, min(first + BATCH_SIZE, total)) for first in range(0, total, BATCH_SIZE)]
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(usable_cores()) as pool:
        coming = ahead.submit(_looked_up, images, preprocessing, subjects, cache, places[0])
        for place, following in zip(places, [*places[1:], None], strict=True):
            known = coming.result()
            if following is not None:
                coming = ahead.submit(_looked_up, images, preprocessing, subjects, cache, following)
            found = [known.completed(0), *pool.map(known.completed, range(1, len(subjects)))]
            if cache is not None and known.fresh:
                cache.put(known.fresh)
            yield place, found


def _looked_up(
    images: Dataset,
    preprocessing: Preprocessing,
    subjects: Sequence[Subject],
    cache: Cache | None,
    place: range,
) -> "_Batch":
    shown = [str(index) for index in place]
    rows: Mapping[bytes, bytes] = {}
    if cache is not None:
        size = preprocessing.model_dump_json()
        shown = [key(images.identity(index), size).hex() for index in place]
    keys = [[key(subject.key, image) for image in shown] for subject in subjects]
    if cache is not None:
        rows = cache.get(name for names in keys for name in names)
    lacking = [index for index in range(len(place)) if any(names[index] not in rows for names in keys)]
    pixels = np.empty((0,), np.uint8)
    if lacking:
        (batch,) = images.select([place[index] for index in lacking]).batches(preprocessing, len(lacking))
        pixels = batch.pixels
    return _Batch(subjects, keys, rows, lacking, pixels)


@dataclass
class _Batch:
    """The keys of each subject's results, those that were looked up, and the images that a subject lacks one of."""

    subjects: Sequence[Subject]
    keys: Sequence[Sequence[bytes]]
    rows: Mapping[bytes, bytes]
    lacking: Sequence[int]
    pixels: NDArray[np.uint8]
    fresh: dict[bytes, bytes] = field(default_factory=dict)

    def completed(self, subject: int) -> list[bytes]:
        """All results of a subject, which is run on the images that it lacks."""
        keys = self.keys[subject]
        wanted = [at for at, index in enumerate(self.lacking) if keys[index] not in self.rows]
        made: dict[bytes, bytes] = {}
        if wanted:
            found = self.subjects[subject].run(self.pixels[wanted])
            made = {keys[self.lacking[at]]: result for at, result in zip(wanted, found, strict=True)}
            self.fresh.update(made)
        return [made[name] if name in made else self.rows[name] for name in keys]
