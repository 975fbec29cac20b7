"""Results per image, looked up in a cache by all that they depend on, and computed only where the cache lacks them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.workers import LocalWorkers
from cloformer_deploy.validation.workers.base import Found, Shard, Work, Workers

BATCH_SIZE = 16
"""Images that are run together. The last digits of PyTorch's outputs depend on which these are, so no way of sharing
the work out may cut a batch."""


def results(
    work: Work, cache: Cache | None, workers: Workers | None = None
) -> Iterator[tuple[range, list[list[bytes]]]]:
    """Yield the indices of some images and each subject's results for them, until all images are done, in order.

    New results are stored batch by batch, so that a run after a kill goes on from there.

    Args:
        work: run on the images whose results the cache lacks.
        cache: where results are looked up and kept; None computes all of them.
        workers: carry it out; None does it in this process.

    Raises:
        DataError: an image cannot be used.
        ToolError: see `Workers.map`; so for other errors.
    """
    total = len(work.images)
    places = [range(first, min(first + BATCH_SIZE, total)) for first in range(0, total, BATCH_SIZE)]
    batches: deque[_Batch] = deque()

    def shards() -> Iterator[Shard]:
        for place in places:
            batch = _looked_up(work, cache, place)
            batches.append(batch)
            yield batch.shard

    for found in (workers or LocalWorkers()).map(work, shards()):
        batch = batches.popleft()
        new = batch.named(found)
        if cache is not None and new:
            cache.put(new)
        yield batch.place, [[new[name] if name in new else batch.known[name] for name in row] for row in batch.keys]


def _looked_up(work: Work, cache: Cache | None, place: range) -> "_Batch":
    names = [str(index) for index in place]
    if cache is not None:
        size = work.preprocessing.model_dump_json()
        names = [key(work.images.identity(index), size).hex() for index in place]
    keys = [[key(subject, name) for name in names] for subject in work.keys]
    known = {} if cache is None else cache.get(item for row in keys for item in row)
    return _Batch(place, keys, known)


@dataclass(frozen=True)
class _Batch:
    """A batch: its images, the keys of each subject's results for them, and the results that were found."""

    place: range
    keys: Sequence[Sequence[bytes]]
    known: Mapping[bytes, bytes]

    @property
    def shard(self) -> Shard:
        """The images of it that some subject lacks a result for."""
        lacking = [at for at in range(len(self.place)) if any(row[at] not in self.known for row in self.keys)]
        wanted = (tuple(i for i, at in enumerate(lacking) if row[at] not in self.known) for row in self.keys)
        return Shard(tuple(self.place[at] for at in lacking), tuple(wanted))

    def named(self, found: Found) -> dict[bytes, bytes]:
        """Return new results by their keys."""
        lacking = (name for row in self.keys for name in row if name not in self.known)
        return dict(zip(lacking, (result for row in found for result in row), strict=True))
