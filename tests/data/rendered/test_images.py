"""Ranges of the rendered data set as image sets: in batches, as folders, and at other input sizes."""

from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.data import Preprocessing, open_folder, probe_images
from cloformer_deploy.data.rendered import CLASSES, SIZE, RenderedImages, render
from cloformer_deploy.data.rendered.writing import write_folder
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Silent

PLAIN = Preprocessing.published(SIZE, SIZE)


def test_batches_are_the_images_in_order() -> None:
    first, second = RenderedImages("train", range(18, 23)).batches(PLAIN, 3)
    assert np.array_equal(first.pixels[2].transpose(1, 2, 0), render("train", 20))
    assert first.labels is not None
    assert second.labels is not None
    assert [*first.labels, *second.labels] == [18, 19, 0, 1, 2]
    assert (first.pixels.shape, second.pixels.shape) == ((3, 3, SIZE, SIZE), (2, 3, SIZE, SIZE))


def test_without_labels() -> None:
    (batch,) = RenderedImages("train", range(2), labeled=False).batches(PLAIN, 4)
    assert batch.labels is None


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (256, 192)])
def test_probe_images_are_of_any_size(height: int, width: int) -> None:
    images = probe_images(2, Preprocessing.published(height, width))
    assert images.shape == (2, 3, height, width)
    assert images.dtype == np.uint8
    assert images.std() > 20
    assert not np.array_equal(images[0], images[1])


def test_a_written_folder_gives_the_same_images_and_labels(tmp_path: Path) -> None:
    images = RenderedImages("validation", range(100, 124))
    write_folder(images, tmp_path / "made", Silent())
    folder = open_folder(tmp_path / "made", len(CLASSES), CLASSES)
    assert len(folder) == 24
    assert not folder.warnings
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    by_name = dict(zip((path.stem for path in folder.paths), folder.labels or (), strict=True))
    assert by_name == {f"validation-{index:06}": index % 20 for index in range(100, 124)}
    (batch,) = folder.batches(PLAIN, 24)
    place = [path.stem for path in folder.paths].index("validation-000107")
    assert np.array_equal(batch.pixels[place].transpose(1, 2, 0), render("validation", 107))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(RequestError, match="not an empty folder"):
        write_folder(RenderedImages("test", range(1)), tmp_path, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    class Interrupts(Silent):
        def advance(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(RenderedImages("test", range(3)), tmp_path / "made", Interrupts())
    assert not list(tmp_path.iterdir())
