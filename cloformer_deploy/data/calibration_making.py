"""Making a calibration set: choosing images, the same number of each class, and writing them into one file."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import stream
from cloformer_deploy.data.calibration import CalibrationSet, open_calibration, rendered_calibration
from cloformer_deploy.data.calibration_file import header, replaced
from cloformer_deploy.data.calibration_manifest import CalibrationManifest, PixelDigests, image_digest
from cloformer_deploy.data.folders import list_images
from cloformer_deploy.data.preprocessing import Preprocessing, load_image
from cloformer_deploy.data.rendered import CLASSES, label
from cloformer_deploy.errors import DataError
from cloformer_deploy.progress import Progress

RENDERED = "rendered"
"""Instead of a folder: images of the rendered task."""

UNLABELED = ""
"""The group of the images that are in no class; no folder has this name."""

Load = Callable[[], NDArray[np.uint8]]
"""Gives one image at the input's size, (3, H, W)."""

_BATCH = 16
_T = TypeVar("_T")


@dataclass(frozen=True)
class Source:
    """Where images come from: groups in the order in which they take turns, each in the order of drawing."""

    name: str
    groups: Mapping[str, Sequence[Load]]
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images there are to draw."""
        return sum(map(len, self.groups.values()))


class Turns(Generic[_T]):
    """Draws from groups in turn, always from one of which the fewest are taken; `taken` counts them by group."""

    def __init__(self, groups: Mapping[str, Sequence[_T]]) -> None:
        self.taken = dict.fromkeys(groups, 0)
        self.rejected = 0
        self._left = {name: deque(items) for name, items in groups.items()}

    def draw(self, count: int) -> list[tuple[str, _T]]:
        """The next `count` items, each with its group; fewer where there are no more."""
        turns = [(self.taken[name], place, name) for place, name in enumerate(self._left)]
        heapq.heapify(turns)
        drawn: list[tuple[str, _T]] = []
        while turns and len(drawn) < count:
            taken, place, name = heapq.heappop(turns)
            if self._left[name]:
                drawn.append((name, self._left[name].popleft()))
                self.taken[name] += 1
                heapq.heappush(turns, (taken + 1, place, name))
        return drawn

    def reject(self, name: str) -> None:
        """An item drawn from this group does not count after all."""
        self.taken[name] -= 1
        self.rejected += 1


@dataclass(frozen=True)
class MadeCalibration:
    """A new file, and what the user should know about its images."""

    output: Path
    calibration: CalibrationSet
    warnings: tuple[str, ...]


def make_calibration(
    images: str, count: int, seed: int, preprocessing: Preprocessing, output: Path, progress: Progress
) -> MadeCalibration:
    """Choose `count` images of the folder `images`, or of the rendered task for `rendered`, and write their pixels.

    The same files, count and seed give the same set. No class has two images more than another, unless it has
    no more. ImageSet of equal pixels count once. ImageSet are streamed: memory does not grow with their number.

    Raises:
        DataError: there is no such folder, it has no images, or one cannot be used.
        RequestError: something else than a calibration set is at `output`.
    """
    source = _rendered(count, seed, preprocessing) if images == RENDERED else _folder(Path(images), seed, preprocessing)
    planned = min(count, source.count)
    draft = CalibrationManifest(
        source=source.name,
        sha256="0" * 64,
        n=planned,
        seed=seed,
        preprocessing=preprocessing,
        classes=_classes(dict.fromkeys(source.groups, 0)),
        images=("0" * 16,) * planned,
    )
    rejected = _write(source, draft, output, progress)
    made = open_calibration(output)
    warnings = [*source.warnings]
    if rejected:
        warnings.append(f"left out, as their pixels are those of others: {rejected} of the images drawn")
    if made.n < count:
        warnings.append(f"{source.name} has {made.n} different images, fewer than --count {count}: all are taken")
    warnings += made.warnings
    for warning in warnings:
        progress.warn(warning)
    return MadeCalibration(output, made, tuple(warnings))


def _rendered(count: int, seed: int, preprocessing: Preprocessing) -> Source:
    images = rendered_calibration(count, seed)
    groups: dict[str, list[Load]] = {}
    for index in images.indices:
        groups.setdefault(CLASSES[label(index)], []).append(partial(images.image, index, preprocessing))
    return Source(images.name, groups)


def _folder(root: Path, seed: int, preprocessing: Preprocessing) -> Source:
    flat, by_class = list_images(root)
    links = [name for name in by_class if (root / name).is_symlink()]
    listed = {UNLABELED: flat, **{name: paths for name, paths in by_class.items() if name not in links}}
    # numpy promises that a bit generator's raw stream never changes, of a shuffle it does not.
    random = np.random.PCG64(seed)
    groups = {
        name: [
            partial(load_image, paths[place], preprocessing)
            for place in random.random_raw(len(paths)).argsort(kind="stable")
        ]
        for name, paths in listed.items()
        if paths
    }
    if not groups:
        raise DataError(f"{root} holds images only behind links to folders", "give the folder that a link leads to")
    warnings = (f"links to folders are left out: {', '.join(map(_printable, links))}",) if links else ()
    return Source(_printable(root.resolve().name), groups, warnings)


def _write(source: Source, draft: CalibrationManifest, output: Path, progress: Progress) -> int:
    """Write pixels and manifest, `draft` completed; how many images were left out as copies of others."""
    turns, digests = Turns(source.groups), PixelDigests()
    with replaced(output) as file:
        progress.step(f"Reading {draft.n} of {source.count} images")
        # Room for all that the manifest can come to say: it is known once the pixels are written.
        longest_counts = len(source.groups) * len(str(draft.n))
        room = file.write(header(draft, len(header(draft)) + longest_counts))
        for pixels in different_images(turns, draft.n):
            file.write(pixels.tobytes())
            digests.add(pixels)
            progress.advance(len(digests.images), draft.n)
        found = {"sha256": digests.sha256, "n": len(digests.images), "images": digests.images}
        manifest = CalibrationManifest.model_validate({**dict(draft), **found, "classes": _classes(turns.taken)})
        file.seek(0)
        file.write(header(manifest, room))
    return turns.rejected


def different_images(turns: Turns[Load], count: int) -> Iterator[NDArray[np.uint8]]:
    """The pixels, (3, H, W), of `count` images of which no two are equal; fewer where there are no more."""
    seen: set[str] = set()
    while drawn := turns.draw(count - len(seen)):
        batches = stream([load for _, load in drawn], None, lambda load: load(), _BATCH)
        for (group, _), pixels in zip(drawn, chain.from_iterable(batch.pixels for batch in batches), strict=True):
            digest = image_digest(pixels)
            if digest in seen:
                turns.reject(group)
            else:
                seen.add(digest)
                yield pixels


def _classes(taken: Mapping[str, int]) -> Mapping[str, int] | None:
    return {_printable(name): count for name, count in taken.items() if name != UNLABELED} or None


def _printable(name: str) -> str:
    """A folder's name as text that JSON and a terminal take, whatever bytes it is of."""
    return name if name.isprintable() else ascii(name)
