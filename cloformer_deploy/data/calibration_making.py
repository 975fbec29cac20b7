"""Makes calibration sets: chooses images evenly over the classes, and writes their pixels into one file."""

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
from cloformer_deploy.data.calibration import BUNDLED, CalibrationSet, open_calibration, rendered_calibration
from cloformer_deploy.data.calibration_file import header, writing
from cloformer_deploy.data.calibration_manifest import CalibrationManifest, PixelDigests, image_digest
from cloformer_deploy.data.folders import list_images
from cloformer_deploy.data.masks import IMAGES, has_masks
from cloformer_deploy.data.preprocessing import Preprocessing, load_image
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.errors import DataError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.text import visible

UNLABELED = ""
"""Group of the images without a class; no folder can have this name."""

Load = Callable[[], NDArray[np.uint8]]
"""Returns one image at the model's input size, RGB uint8 (3, H, W)."""

_BATCH = 16
_T = TypeVar("_T")


@dataclass(frozen=True)
class Source:
    """Images to choose from.

    Attributes:
        name: of the folder, or split and range of the rendered data set.
        groups: images of each class, in the order in which they are drawn.
        warnings: for the user.
    """

    name: str
    groups: Mapping[str, Sequence[Load]]
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images in all groups."""
        return sum(map(len, self.groups.values()))


class Turns(Generic[_T]):
    """Draws items from groups so that their numbers stay even: always from the group with the fewest drawn so far.

    Attributes:
        taken: items drawn of each group and not rejected.
        rejected: items that were drawn and rejected.
    """

    def __init__(self, groups: Mapping[str, Sequence[_T]]) -> None:
        self.taken = dict.fromkeys(groups, 0)
        self.rejected = 0
        self._left = {name: deque(items) for name, items in groups.items()}

    def draw(self, count: int) -> list[tuple[str, _T]]:
        """Return the next `count` items, each with its group; fewer if there are no more."""
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
        """Take back an item that was drawn from this group: the group may give another one in its place."""
        self.taken[name] -= 1
        self.rejected += 1


@dataclass(frozen=True)
class MadeCalibration:
    """A calibration set that was written to a file.

    Attributes:
        output: the file.
        calibration: the set, opened again.
        warnings: facts about the choice of images that the user should know.
    """

    output: Path
    calibration: CalibrationSet
    warnings: tuple[str, ...]


def make_calibration(
    images: str, count: int, seed: int, preprocessing: Preprocessing, output: Path, progress: Progress
) -> MadeCalibration:
    """Choose images and write their pixels to a calibration set's file.

    The same files, count and seed give the same set. The classes differ by at most one image, unless a class has no
    more images. Images with equal pixels are used once. Memory does not grow with the number of images.

    Args:
        images: path of a folder (each sub-folder is a class, or `images/` has a `masks/` beside it); or a key of
            `BUNDLED` for a rendered data set.
        count: number of images to choose; all images if there are fewer.
        seed: of the random choice.
        preprocessing: of the models to be calibrated.
        output: the file to create or replace.
        progress: receives the steps and the warnings.

    Raises:
        DataError: the folder does not exist or has no images, or an image cannot be used.
        RequestError: there is something other than a calibration set at `output`, or it cannot be written.
    """
    if images in BUNDLED:
        source = _rendered(images, count, seed, preprocessing)
    else:
        source = _folder(Path(images), seed, preprocessing)
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
        warnings.append(f"{rejected} images were left out because their pixels equal those of another image")
    if made.n < count:
        warnings.append(f"{source.name} has {made.n} different images, fewer than the {count} asked for: all are used")
    warnings += made.warnings
    for warning in warnings:
        progress.warn(warning)
    return MadeCalibration(output, made, tuple(warnings))


def _rendered(name: str, count: int, seed: int, preprocessing: Preprocessing) -> Source:
    images = rendered_calibration(name, count, seed)
    groups: dict[str, list[Load]] = {}
    for place in range(len(images)):
        group = UNLABELED if images.labels is None else CLASSES[images.labels[place]]
        groups.setdefault(group, []).append(partial(images.load, place, preprocessing))
    return Source(images.name, groups)


def _folder(root: Path, seed: int, preprocessing: Preprocessing) -> Source:
    listing = list_images(root / IMAGES if has_masks(root) else root)
    flat, by_class = listing.flat, listing.by_class
    links = [name for name in by_class if (root / name).is_symlink()]
    listed = {UNLABELED: flat, **{name: paths for name, paths in by_class.items() if name not in links}}
    # numpy guarantees a bit generator's raw stream in all versions, but not the result of its shuffle.
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
        raise DataError(f"{root} holds images only behind links to folders", "pass the folder that a link points to")
    ignored = (f"links to folders are ignored: {', '.join(map(visible, links))}",) if links else ()
    return Source(visible(root.resolve().name), groups, (*listing.warnings, *ignored))


def _write(source: Source, draft: CalibrationManifest, output: Path, progress: Progress) -> int:
    """Write the pixels and the manifest, which is `draft` with the digests and counts of the images.

    Returns:
        The number of images that were left out because their pixels equal those of another image.
    """
    turns, digests = Turns(source.groups), PixelDigests()
    with writing(output) as file:
        progress.step(f"Reading {draft.n} of {source.count} images")
        # The digests are known once the pixels are written, so the header is reserved at its greatest length.
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
    """Yield `count` images without duplicates, RGB uint8 (3, H, W); fewer if there are no more."""
    seen: set[str] = set()
    while drawn := turns.draw(count - len(seen)):
        loaded = chain.from_iterable(stream([load for _, load in drawn], lambda load: load(), _BATCH))
        for (group, _), pixels in zip(drawn, loaded, strict=True):
            digest = image_digest(pixels)
            if digest in seen:
                turns.reject(group)
            else:
                seen.add(digest)
                yield pixels


def _classes(taken: Mapping[str, int]) -> Mapping[str, int] | None:
    return {visible(name, keep=""): count for name, count in taken.items() if name != UNLABELED} or None


def first_images(whole: CalibrationSet, count: int, output: Path) -> None:
    """Write the first images of a calibration set to a file of its own: ranges that need not be good come faster.

    Raises:
        DataError: an image differs from its digest in the set's manifest.
        RequestError: the file cannot be written.
    """
    pixels = next(iter(whole.batches(whole.preprocessing, min(count, whole.n)))).pixels
    digests = PixelDigests()
    for image in pixels:
        digests.add(image)
    changes = {"n": len(pixels), "images": tuple(digests.images), "sha256": digests.sha256, "classes": None}
    with writing(output) as file:
        file.write(header(whole.manifest.model_copy(update=changes)))
        file.write(pixels.tobytes())
