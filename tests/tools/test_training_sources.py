"""The image folder as a source: labels, identity, damaged images, even spreading."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloformer_deploy.errors import DataError
from tests.tools.samples import CLASSES, write_images
from tools.training.sources import FolderSource, spread


class Labeled(list[Any]):
    """A source of which only the labels count."""

    identity = "labeled"

    def __init__(self, labels: list[int]) -> None:
        super().__init__(labels)
        self.labels = labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", each=3)


def test_sub_folders_are_the_classes(folder: Path) -> None:
    source = FolderSource(folder)
    assert source.classes == CLASSES
    assert source.labels == (0, 0, 0, 1, 1, 1)
    image, label = source[3]
    assert (image.mode, image.size, label) == ("RGB", (40, 48), 1)
    with Image.open(folder / "dot" / "0.png") as original:
        assert image.tobytes() == original.tobytes()


def test_sub_folders_named_like_the_classes_are_matched_by_name(folder: Path) -> None:
    source = FolderSource(folder, ("dot", "cross"))
    assert source.labels == (1, 1, 1, 0, 0, 0)
    assert not source.warnings


def test_other_names_than_the_classes_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"cross, dot; labels without a folder: plus, point"):
        FolderSource(folder, ("plus", "point"))


def test_the_identity_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    identity = FolderSource(folder).identity
    assert FolderSource(write_images(tmp_path / "copy", each=3)).identity == identity
    (folder / "cross" / "2.png").rename(folder / "dot" / "2a.png")
    assert FolderSource(folder).identity != identity


def test_a_damaged_image_is_told_before_training(folder: Path) -> None:
    broken = folder / "dot" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"dot/1\.png"):
        FolderSource(folder)


def test_a_image_that_needs_a_foreign_decoder_is_refused(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "dot" / "1.png", "GIF")
    with pytest.raises(DataError, match=r"dot/1\.png"):
        FolderSource(folder)


def test_a_folder_without_labels_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sub-folders"):
        FolderSource(folder / "dot")
    with pytest.raises(DataError, match="absent"):
        FolderSource(tmp_path / "absent")


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70))
def test_a_spread_gives_every_class_its_share(labels: list[int], limit: int) -> None:
    chosen = spread(Labeled(labels), limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, len(labels))
    taken = Counter(labels[index] for index in chosen)
    for label, count in Counter(labels).items():
        assert abs(taken[label] - count * len(chosen) / len(labels)) <= 1
