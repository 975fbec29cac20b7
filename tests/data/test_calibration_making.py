"""Making calibration sets: the choice of images, and the atomic replacement of the file."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloformer_deploy.data import MadeCalibration, Preprocessing, make_calibration, open_calibration
from cloformer_deploy.data.calibration_making import Load, Turns, different_images
from cloformer_deploy.errors import DataError, RequestError
from cloformer_deploy.progress import Silent
from tests.data.image_files import red_image

SMALL = Preprocessing.published(32, 32)


class Listens(Silent):
    """A progress that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def folder(root: Path, sizes: dict[str, int]) -> Path:
    """Make a folder with these numbers of PNG images in its sub-folders, each with another value of red."""
    red = 0
    for name, size in sizes.items():
        for index in range(size):
            red_image(root / name / f"{index:02}.png", red)
            red += 1
    return root


def made(images: Path | str, count: int, output: Path, seed: int = 0) -> MadeCalibration:
    listens = Listens()
    result = make_calibration(str(images), count, seed, SMALL, output, listens)
    assert listens.warnings == list(result.warnings)
    return result


def reds(result: MadeCalibration) -> list[int]:
    batches = result.calibration.batches(SMALL, 4)
    return [int(pixels[0, 0, 0]) for batch in batches for pixels in batch.pixels]


# The choice of images, with images of one pixel


def pixel(value: int) -> NDArray[np.uint8]:
    return np.full((3, 1, 1), value, np.uint8)


groups_of_images = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2), st.lists(st.integers(0, 60), max_size=20), min_size=1, max_size=6
)


def chosen(groups: dict[str, list[int]], count: int) -> tuple[list[int], Turns[Load]]:
    turns: Turns[Load] = Turns({name: [partial(pixel, value) for value in values] for name, values in groups.items()})
    return [int(pixels[0, 0, 0]) for pixels in different_images(turns, count)], turns


@pytest.mark.integration
@given(groups_of_images, st.integers(1, 80))
def test_no_class_has_two_more_than_another_unless_that_has_no_more(groups: dict[str, list[int]], count: int) -> None:
    values, turns = chosen(groups, count)
    assert len(set(values)) == len(values) == min(count, len(set().union(*groups.values())))
    assert sum(turns.taken.values()) == len(values)
    most = max(turns.taken.values())
    fewest = [name for name, taken in turns.taken.items() if taken < most - 1]
    # These have no more images: all of theirs were chosen, from them or as an equal image of another class.
    for name in fewest:
        assert set(groups[name]) <= set(values)
    assert (values, turns.taken) == (chosen(groups, count)[0], chosen(groups, count)[1].taken)


def test_classes_take_turns_in_order() -> None:
    values, turns = chosen({"a": [1, 2, 3], "b": [4], "c": [5, 6]}, 5)
    assert values == [1, 4, 5, 2, 6]
    assert turns.taken == {"a": 2, "b": 1, "c": 2}


def test_another_image_of_the_class_takes_the_place_of_a_copy() -> None:
    values, turns = chosen({"a": [1, 1, 2], "b": [3, 1, 4, 5]}, 4)
    assert sorted(values) == [1, 2, 3, 4]
    assert turns.taken == {"a": 2, "b": 2}
    assert turns.rejected == 2


# Folders


def test_a_folder_of_classes(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"b": 30, "a/deep": 10, "c": 5})
    result = made(images, 36, tmp_path / "set")
    assert result.warnings == ()
    manifest = result.calibration.manifest
    assert (manifest.source, manifest.n) == ("photos", 36)
    assert manifest.classes == {"a": 10, "b": 21, "c": 5}
    assert len(set(reds(result))) == 36


def test_images_beside_classes_are_a_group_of_their_own(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"a": 20, "": 20})
    result = made(images, 32, tmp_path / "set")
    assert result.calibration.manifest.classes == {"a": 16}
    assert Counter(red < 20 for red in reds(result)) == {True: 16, False: 16}


def test_a_flat_folder_has_no_classes_and_every_format(tmp_path: Path) -> None:
    for index, suffix in enumerate(("png", "jpg", "JPEG", "webp")):
        red_image(tmp_path / "photos" / f"{index}.{suffix}", 60 * index)
    result = made(tmp_path / "photos", 4, tmp_path / "set")
    assert result.calibration.manifest.classes is None
    assert result.calibration.n == 4


def test_the_same_seed_gives_the_same_file_and_another_other_images(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"a": 30, "b": 30})
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        made(images, 32, tmp_path / name, seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert open_calibration(tmp_path / "first").sha256 != open_calibration(tmp_path / "other").sha256
    assert other != first


def test_hidden_and_linked_folders_are_ignored(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"a": 3, ".hidden": 2, "a/.thumbnails": 2})
    red_image(images / ".b.png", 200)
    (images / "notes.txt").touch()
    folder(tmp_path / "elsewhere", {"c": 2})
    (images / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "loop").symlink_to(images)
    result = made(images, 100, tmp_path / "set")
    assert sorted(reds(result)) == [0, 1, 2]
    assert result.warnings[0] == "links to folders are ignored: loop"


def test_images_only_behind_links(tmp_path: Path) -> None:
    folder(tmp_path / "elsewhere", {"": 2})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="only behind links"):
        made(tmp_path / "photos", 2, tmp_path / "set")


def test_copies_fewer_than_asked_for_and_too_few_are_told(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"a": 3, "b": 2})
    red_image(images / "b" / "copy.webp", 0)
    red_image(images / "c" / "copy.png", 1)
    result = made(images, 7, tmp_path / "set")
    copies, fewer, unreliable = result.warnings
    assert copies == "2 images were left out because their pixels equal those of another image"
    assert fewer == "photos has 5 different images, fewer than the 7 asked for: all are used"
    assert "5 images are unreliable" in unreliable
    assert sorted(reds(result)) == list(range(5))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    images = tmp_path / "photos\x1b[31m"
    try:
        red_image(images / "caf\udce9" / "a.png", 0)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    manifest = made(images, 1, tmp_path / "set").calibration.manifest
    assert manifest.source == r"photos\x1b[31m"
    assert manifest.classes == {r"caf\xe9": 1}


# Rendered images


def test_rendered_images_are_in_the_order_of_their_indices(tmp_path: Path) -> None:
    result = made("rendered", 3, tmp_path / "set", seed=13)
    assert result.calibration.manifest.source == "rendered calibration 39-41"
    assert list(result.calibration.manifest.classes or ()) == ["wheel", "arrow", "basket"]


def test_a_folder_called_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "rendered", {"": 2})
    assert made("./rendered", 2, Path("set")).calibration.manifest.source == "rendered"


# The output


def listing(root: Path) -> Sequence[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.mark.parametrize("output", ["set", "new/deep/set"])
@pytest.mark.parametrize("before", [False, True])
def test_a_broken_image_leaves_the_previous_file(tmp_path: Path, output: str, before: bool) -> None:
    images = folder(tmp_path / "photos", {"a": 30})
    path = tmp_path / output
    if before:
        made(images, 5, path)
    (images / "a" / "29.png").write_bytes(b"broken")
    there, content = listing(tmp_path), path.read_bytes() if before else None
    with pytest.raises(DataError, match=r"29\.png"):
        made(images, 30, path)
    assert listing(tmp_path) == there
    assert content is None or path.read_bytes() == content


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    class Interrupts(Silent):
        def advance(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    images = folder(tmp_path / "photos", {"a": 3})
    there = listing(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make_calibration(str(images), 3, 0, SMALL, tmp_path / "new" / "set", Interrupts())
    assert listing(tmp_path) == there


def test_a_calibration_set_is_replaced(tmp_path: Path) -> None:
    images = folder(tmp_path / "photos", {"a": 3})
    made(images, 3, tmp_path / "set")
    assert made(images, 2, tmp_path / "set").calibration.n == 2
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("output", ["photos/00.png", "photos", "photos/00.png/set"])
def test_anything_else_is_not_replaced(tmp_path: Path, output: str) -> None:
    images = folder(tmp_path / "photos", {"": 2})
    content = (images / "00.png").read_bytes()
    there = listing(tmp_path)
    with pytest.raises(RequestError, match=output) as caught:
        made(images, 2, tmp_path / output)
    assert "choose another output file" in caught.value.hint
    assert listing(tmp_path) == there
    assert (images / "00.png").read_bytes() == content
