"""Rendered images and scenes as sources. They are rendered once, in chunks that are files, and read from there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import fsync
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cloformer_deploy.data.rendered import CLASSES, SIZE, VERSION, label, render
from cloformer_deploy.data.rendered.scenes import SCENES_VERSION, render_scene
from cloformer_deploy.system.cores import usable_cores
from tools.training.progress import say

_IGNORED_FROM = 100
CHUNK = 500
"""Images in a file (75 MB): what a kill can lose on each core."""


def _scene(split: str, index: int) -> NDArray[np.uint8]:
    scene = render_scene(split, index)
    return np.dstack([scene.pixels, scene.mask])


def _numbered(split: str, index: int) -> NDArray[np.uint8]:
    """A scene whose fourth channel has a number for each object: 1 + class + 20 * place, and 100 more if ignored."""
    scene = render_scene(split, index)
    numbers = np.zeros(256, np.uint8)
    for place, item in enumerate(scene.objects):
        numbers[place + 1] = 1 + item.index + len(CLASSES) * place + _IGNORED_FROM * item.ignored
    return np.dstack([scene.pixels, numbers[scene.owners]])


def objects_of(numbers: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The objects of a scene, edges from 0 to 1 (n, 6), from the fourth channel of `_numbered`."""
    height, width = numbers.shape
    rows = []
    for number in np.unique(numbers[numbers > 0]).tolist():
        mine = numbers == number
        down, across = (np.flatnonzero(mine.any(axis=axis)) for axis in (1, 0))
        box = (across[0] / width, down[0] / height, (across[-1] + 1) / width, (down[-1] + 1) / height)
        rows.append((*box, (number - 1) % _IGNORED_FROM % len(CLASSES), float(number > _IGNORED_FROM)))
    return np.array(rows, np.float32).reshape(-1, 6)


def _mask(mask: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(mask)


@dataclass(frozen=True)
class Drawing:
    """A kind of rendered images.

    Attributes:
        name: of its folder in a cache, with the version: another version draws other images.
        title: in prose.
        render: draws (split, index): uint8, (SIZE, SIZE, channels); a fourth channel is the mask.
        channels: 3, or 4 with what is right at each pixel.
        target: reads the fourth channel; None where an image has one class.
    """

    name: str
    title: str
    render: Callable[[str, int], NDArray[np.uint8]]
    channels: int
    target: Callable[[NDArray[np.uint8]], Any] | None = None


IMAGES = Drawing(f"rendered-v{VERSION}", f"rendered task version {VERSION}", render, 3)
SCENES = Drawing(f"scenes-v{SCENES_VERSION}", f"rendered scenes version {SCENES_VERSION}", _scene, 4, _mask)
BOXES = Drawing(
    f"scene-boxes-v{SCENES_VERSION}", f"boxes of rendered scenes version {SCENES_VERSION}", _numbered, 4, objects_of
)


@dataclass(frozen=True)
class _Split(Dataset[Tensor]):
    """The images of a split as they are rendered."""

    drawing: Drawing
    split: str

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.drawing.render(self.split, index))


@dataclass(frozen=True)
class RenderedSource:
    """The first `count` images of a split, SIZE px, kept in `cache`."""

    split: str
    count: int
    cache: Path
    drawing: Drawing = IMAGES
    labels: tuple[int, ...] | None = field(init=False)
    _opened: dict[int, NDArray[np.uint8]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Render what the cache does not hold yet, on all cores."""
        labels = tuple(label(index) for index in range(self.count)) if self.drawing is IMAGES else None
        object.__setattr__(self, "labels", labels)
        self._folder.mkdir(parents=True, exist_ok=True)
        chunks = [self._chunk(first) for first in range(0, self.count, CHUNK)]
        missing = [chunk for chunk in chunks if not self._is_whole(chunk)]
        done = self.count - sum(map(len, missing))
        for chunk, pixels in zip(missing, _rendered(self.drawing, self.split, missing), strict=True):
            _write(self._path(chunk), pixels)
            done += len(chunk)
            say(f"rendered {done} of {self.count} {self.split} images")

    @property
    def identity(self) -> str:
        """Split, version and number of the images."""
        return f"{self.drawing.title}, {self.count} {self.split} images"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        """The image, RGB, SIZE px, and its target."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        first = index - index % CHUNK
        if first not in self._opened:
            self._opened[first] = np.load(self._path(self._chunk(first)), mmap_mode="r")
        pixels = self._opened[first][index - first]
        target: Any = None
        if self.labels is not None:
            target = self.labels[index]
        elif self.drawing.target is not None:
            target = self.drawing.target(pixels[..., 3])
        return Image.fromarray(np.ascontiguousarray(pixels[..., :3])), target

    def __getstate__(self) -> dict[str, object]:
        # A memory map would be pickled as the images themselves, for every worker process that is spawned.
        return {**self.__dict__, "_opened": {}}

    @property
    def _folder(self) -> Path:
        return self.cache / self.drawing.name / self.split

    def _chunk(self, first: int) -> range:
        return range(first, min(first + CHUNK, self.count))

    def _path(self, chunk: range) -> Path:
        return self._folder / f"{chunk.start:06d}-{chunk.stop:06d}.npy"

    def _is_whole(self, chunk: range) -> bool:
        try:
            pixels = np.load(self._path(chunk), mmap_mode="r")
        except (OSError, ValueError):
            return False
        return bool(pixels.shape == (len(chunk), SIZE, SIZE, self.drawing.channels) and pixels.dtype == np.uint8)


def _rendered(drawing: Drawing, split: str, chunks: list[range]) -> Iterator[NDArray[np.uint8]]:
    """The images of each chunk, (n, SIZE, SIZE, channels), rendered on all cores."""
    if not chunks:
        return
    # A DataLoader's workers, unlike a process pool's, end by themselves when this process is killed.
    workers = min(usable_cores(), len(chunks))
    images, order = _Split(drawing, split), [*map(list, chunks)]
    for pixels in DataLoader(images, batch_sampler=order, num_workers=workers, prefetch_factor=1):
        yield pixels.numpy()


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.save(file, pixels)
        file.flush()
        fsync(file.fileno())
    partial.replace(path)
