"""Test that results are computed for the images that lack them, and are otherwise taken from the cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.data import Dataset, Preprocessing, open_folder
from cloformer_deploy.errors import DataError
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.cached_inference import BATCH_SIZE, results
from cloformer_deploy.validation.workers.base import Lot, Pixels

PREPROCESSING = Preprocessing.published(32, 32)
COUNT = 2 * BATCH_SIZE + 5


class Sums:
    """Work whose result is the sum of an image's pixels times a factor; counts the images it is run on."""

    files = None

    def __init__(self, images: Dataset, factors: Sequence[int], preprocessing: Preprocessing) -> None:
        self.images, self.preprocessing, self._factors = images, preprocessing, factors
        self.keys = [key("sum", str(factor)) for factor in factors]
        self.runs: list[int] = []
        self.opened: set[int] = set()
        self.prepared = 0

    def at(self, root: Path) -> "Sums":
        return self

    def environment(self) -> Mapping[str, str]:
        return {}

    def open(self, subjects: Sequence[int]) -> None:
        self.opened |= set(subjects)

    def prepare(self, pixels: Pixels) -> Outputs:
        self.prepared += len(pixels)
        return {"sums": pixels.reshape(len(pixels), -1).sum(axis=1, dtype=np.float32)}

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        assert subject in self.opened
        self.runs.append(len(lot.pixels))
        sums = lot.pixels.reshape(len(lot.pixels), -1).sum(axis=1, dtype=np.float32)
        np.testing.assert_array_equal(sums, lot.prepared["sums"])
        return [str(int(value) * self._factors[subject]).encode() for value in sums]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(made / f"{index:03}.png")
    return made


def images_of(folder: Path) -> Dataset:
    return open_folder(folder, 10, None)


def run(
    images: Dataset, cache: Cache | None, factors: Sequence[int], preprocessing: Preprocessing = PREPROCESSING
) -> tuple[list[list[bytes]], Sums]:
    counted = Sums(images, factors, preprocessing)
    found: list[list[bytes]] = [[] for _ in factors]
    places: list[int] = []
    for place, lots in results(counted, cache):
        places += place
        for kept, new in zip(found, lots, strict=True):
            kept += new
    assert places == list(range(len(images)))
    return found, counted


def plain(images: Dataset, factor: int) -> list[bytes]:
    loaded = (images.load(index, PREPROCESSING) for index in range(len(images)))
    return [str(int(image.sum(dtype=np.int64)) * factor).encode() for image in loaded]


def test_results_are_in_order_and_those_of_every_image(folder: Path) -> None:
    images = images_of(folder)
    found, counted = run(images, None, [1, 3])
    assert found == [plain(images, 1), plain(images, 3)]
    assert sum(counted.runs) == 2 * COUNT
    assert counted.prepared == COUNT


def test_a_second_run_computes_nothing(folder: Path, tmp_path: Path) -> None:
    images, cache = images_of(folder), Cache(tmp_path / "cache")
    first, _ = run(images, cache, [1, 3])
    found, counted = run(images, Cache(tmp_path / "cache"), [1, 3])
    assert found == first == [plain(images, 1), plain(images, 3)]
    assert (counted.runs, counted.prepared, counted.opened) == ([], 0, set())


def test_only_new_images_and_new_subjects_are_computed(folder: Path, tmp_path: Path) -> None:
    images, cache = images_of(folder), Cache(tmp_path / "cache")
    some = images.select(range(0, COUNT, 3))
    run(some, cache, [1])
    found, counted = run(images, cache, [1])
    assert found == [plain(images, 1)]
    assert sum(counted.runs) == COUNT - len(some)
    found, counted = run(images, cache, [1, 2])
    assert counted.opened == {1}
    assert found == [plain(images, 1), plain(images, 2)]
    assert sum(counted.runs) == COUNT


def test_renamed_images_are_known_and_changed_ones_are_not(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    run(images_of(folder), cache, [1])
    (folder / "000.png").rename(folder / "zzz.png")
    Image.fromarray(np.full((40, 36, 3), 7, np.uint8)).save(folder / "001.png")
    images = images_of(folder)
    found, counted = run(images, cache, [1])
    assert found == [plain(images, 1)]
    assert counted.runs == [1]


def test_results_of_another_input_size_are_others(folder: Path, tmp_path: Path) -> None:
    images, cache = images_of(folder), Cache(tmp_path / "cache")
    small, _ = run(images, cache, [1])
    large, counted = run(images, cache, [1], Preprocessing.published(64, 64))
    assert sum(counted.runs) == COUNT
    assert small != large


def test_finished_batches_are_kept_when_an_image_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    broken = folder / f"{COUNT - 1:03}.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    with pytest.raises(DataError):
        run(images_of(folder), cache, [1])
    broken.write_bytes(content)
    images = images_of(folder)
    found, counted = run(images, cache, [1])
    assert found == [plain(images, 1)]
    assert sum(counted.runs) == COUNT - 2 * BATCH_SIZE
