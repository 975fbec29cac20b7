"""Batches of a folder's images: order, labels, errors, and how far loading is ahead."""

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.data import ImageFolder, Preprocessing, open_folder
from cloformer_deploy.data import folders as module
from cloformer_deploy.errors import DataError
from tests.data.image_files import red_image

SMALL = Preprocessing.published(32, 32)


@pytest.fixture(scope="module")
def reds(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """13 images in three classes, each with another value of red."""
    root = tmp_path_factory.mktemp("reds")
    for index in range(13):
        red_image(root / "abc"[index % 3] / f"{index:02d}.png", red=10 * index)
    return open_folder(root, 3, None)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 15), labeled=st.booleans(), limit=st.none() | st.integers(1, 13))
def test_every_image_comes_once_in_order_with_its_label(
    reds: ImageFolder, size: int, labeled: bool, limit: int | None
) -> None:
    folder = reds if labeled else ImageFolder(reds.root, reds.paths, None)
    folder = folder.limited(limit)
    batches = list(folder.batches(SMALL, size))
    assert [len(batch.pixels) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[-1].pixels) <= size
    for batch in batches:
        assert batch.pixels.dtype == np.uint8
        assert batch.pixels.shape[1:] == (3, 32, 32)
    pixels = np.concatenate([batch.pixels for batch in batches])
    assert pixels[:, 0, 0, 0].tolist() == [10 * int(path.stem) for path in folder.paths]
    assert not pixels[:, 1:].any()
    if not labeled:
        assert all(batch.labels is None for batch in batches)
        return
    labels = [batch.labels for batch in batches if batch.labels is not None]
    assert all(found.dtype == np.int64 for found in labels)
    assert np.concatenate(labels).tolist() == [int(path.stem) % 3 for path in folder.paths]


def test_an_empty_selection_gives_no_batches(tmp_path: Path) -> None:
    assert list(ImageFolder(tmp_path, (), None).batches(SMALL, 4)) == []


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_broken_image_in_the_middle_is_named_when_its_batch_is_reached(tmp_path: Path, size: int) -> None:
    for index in range(7):
        red_image(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_bytes(b"broken")
    batches = open_folder(tmp_path, 3, None).batches(SMALL, size)
    for _ in range(4 // size):
        assert len(next(batches).pixels) == size
    with pytest.raises(DataError, match=r"4\.png is no image of a kind"):
        next(batches)


def test_decoding_runs_one_batch_ahead_and_no_further(reds: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def load(path: Path, preprocessing: Preprocessing) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        asked.append(path)
        return np.zeros((3, 32, 32), np.uint8)

    monkeypatch.setattr(module, "load_image", load)
    batches = reds.batches(SMALL, 2)
    assert asked == []
    next(batches)
    assert len(asked) <= 4
    next(batches)
    assert len(asked) <= 6
    batches.close()  # type: ignore[attr-defined]
    assert len(asked) <= 6


def test_a_bug_in_decoding_is_not_hidden(reds: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, preprocessing: Preprocessing) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "load_image", load)
    with pytest.raises(RuntimeError, match="a bug"):
        list(reds.batches(SMALL, 4))
