"""Folders of images: layouts, labels, ignored files, and selections."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.data import ImageFolder, open_folder
from cloformer_deploy.errors import DataError
from tests.data.image_files import red_image

ROOT_IGNORES_PERMISSIONS = pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")


def names(folder: ImageFolder) -> list[str]:
    return [path.relative_to(folder.root).as_posix() for path in folder.paths]


def refusal(root: Path, num_classes: int = 3, labels: tuple[str, ...] | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        open_folder(root, num_classes, labels)
    assert str(root) in caught.value.message
    assert caught.value.hint
    return caught.value


# Layouts


def test_a_flat_folder_is_unlabeled_and_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.Jpeg", "d.WEBP", "C.PNG"):
        red_image(tmp_path / name)
    for name in ("notes.txt", "f", "png", "g.png.bak"):
        (tmp_path / name).write_text("no image")
    folder = open_folder(tmp_path, 3, ("a", "b", "c"))
    assert names(folder) == ["C.PNG", "a.JPG", "b.png", "c.Jpeg", "d.WEBP"]
    assert folder.labels is None
    assert folder.warnings == ()
    assert len(folder) == 5


def test_a_flat_folder_may_hold_folders_without_images(tmp_path: Path) -> None:
    red_image(tmp_path / "a.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.txt").write_text("")
    assert names(open_folder(tmp_path, 3, None)) == ["a.png"]


def test_sorted_folder_names_are_the_labels(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a/1.png", "c/deep/er/1.JPEG", "c/2.webp"):
        red_image(tmp_path / name)
    folder = open_folder(tmp_path, 3, None)
    assert names(folder) == ["a/1.png", "b/1.png", "b/2.png", "c/2.webp", "c/deep/er/1.JPEG"]
    assert folder.labels == (0, 1, 1, 2, 2)
    assert folder.warnings == ()


def test_folder_names_are_matched_to_the_labels_of_the_model(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/1.png"):
        red_image(tmp_path / name)
    folder = open_folder(tmp_path, 4, ("zebra", "dog", "cat", "ant"))
    assert names(folder) == ["cat/1.png", "dog/1.png"]
    assert folder.labels == (2, 1)
    assert folder.warnings == ()


def test_an_empty_class_folder_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b/1.png", "c/1.png"):
        red_image(tmp_path / name)
    folder = open_folder(tmp_path, 3, None)
    assert folder.labels == (1, 2)
    (warning,) = folder.warnings
    assert warning == f"classes without images in {tmp_path}: a"
    assert folder.limited(1).warnings == (warning,)


def test_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    for name in ("a", "notes", "__MACOSX", "@eaDir"):
        (tmp_path / name).mkdir()
    red_image(tmp_path / "__MACOSX" / "b" / "._1.png")
    red_image(tmp_path / "@eaDir" / "1.png")
    for name in ("b/1.png", "c/1.png"):
        red_image(tmp_path / name)
    folder = open_folder(tmp_path, 3, ("a", "b", "c"))
    assert folder.labels == (1, 2)
    assert [warning.partition(" of ")[0] for warning in folder.warnings] == [
        "folders",
        f"classes without images in {tmp_path}: a",
    ]
    assert "notes" in folder.warnings[0]
    assert open_folder(tmp_path, 2, None).labels == (0, 1)


def test_images_of_other_kinds_are_counted(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.jfif", "b/3.jpe"):
        red_image(tmp_path / name)
    for name in ("a/1.cr2", "a/2.CR2", "b/3.svg"):
        (tmp_path / name).write_text("")
    folder = open_folder(tmp_path, 2, None)
    assert names(folder) == ["a/1.png", "b/2.jfif", "b/3.jpe"]
    assert folder.warnings == (f"images of kinds that are not read are left out of {tmp_path}: 2 .cr2, 1 .svg",)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (
        "a/1.png",
        "a/.2.png",
        "a/._1.png",
        "a/.thumbnails/1.png",
        ".cache/1.png",
        ".3.png",
        "b/sub/.x/y/1.png",
    ):
        red_image(tmp_path / name)
    folder = open_folder(tmp_path, 2, None)
    assert names(folder) == ["a/1.png"]
    assert folder.labels == (0,)


def test_links_to_images_count_and_loops_do_not_hang(tmp_path: Path) -> None:
    red_image(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to("1.png")
    (tmp_path / "a" / "3.png").symlink_to("3.png")  # to itself
    (tmp_path / "a" / "4.png").symlink_to("missing.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "folder.png").mkdir()
    assert names(open_folder(tmp_path, 1, ["a"])) == ["a/1.png", "a/2.png"]


def test_a_class_may_be_a_link_to_a_folder(tmp_path: Path) -> None:
    red_image(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(open_folder(tmp_path / "data", 1, ["a"])) == ["a/1.png"]


# Refused


def test_images_beside_class_folders(tmp_path: Path) -> None:
    red_image(tmp_path / "1.png")
    red_image(tmp_path / "a" / "1.png")
    assert "1 images beside sub-folders" in refusal(tmp_path).message


def test_no_images(tmp_path: Path) -> None:
    assert "holds no images" in refusal(tmp_path).message
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("")
    red_image(tmp_path / ".hidden.png")
    assert "holds no images" in refusal(tmp_path).message


def test_no_folder(tmp_path: Path) -> None:
    assert "not a folder" in refusal(tmp_path / "missing").message
    assert "not a folder" in refusal(red_image(tmp_path / "a.png")).message


def test_split_folders_are_no_classes(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "val/cat/1.png", "test/cat/1.png"):
        red_image(tmp_path / name)
    error = refusal(tmp_path, 3, None)
    assert "a folder for each split (test, train, val), not for each class" in error.message
    assert error.hint == f"give {tmp_path / 'test'}"


@pytest.mark.parametrize("unreadable", ["", "a", "a/inner"])
def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreadable: str) -> None:
    """A skipped folder would be a class without images. The error is injected, because root can read every folder."""
    for name in ("a/1.png", "a/inner/2.png", "b/1.png"):
        red_image(tmp_path / name)
    real = os.scandir

    def scandir(path: str | os.PathLike[str] = ".") -> "os._ScandirContextManager[os.DirEntry[str]]":  # type: ignore[name-defined]
        if Path(path) == tmp_path / unreadable:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    error = refusal(tmp_path, 2)
    assert str(tmp_path / unreadable) in error.message
    assert "Permission denied" in error.message


@ROOT_IGNORES_PERMISSIONS
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    red_image(tmp_path / "a" / "1.png")
    (tmp_path / "a").chmod(0)
    try:
        assert "Permission denied" in refusal(tmp_path, 1).message
    finally:
        (tmp_path / "a").chmod(0o700)


# A part of a folder


class_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


@given(class_sizes, st.integers(1, 400))
def test_a_limit_keeps_the_balance_of_the_classes(sizes: list[int], limit: int) -> None:
    labels = tuple(label for label, size in enumerate(sizes) for _ in range(size))
    whole = ImageFolder(Path("x"), tuple(Path(f"{index}.png") for index in range(len(labels))), labels, ("w",))
    part = whole.limited(limit)
    assert len(part) == min(limit, len(whole))
    assert part.labels is not None
    for path, label in zip(part.paths, part.labels, strict=True):
        assert labels[int(path.stem)] == label
    positions = [int(path.stem) for path in part.paths]
    assert positions == sorted(set(positions))
    counts = Counter(part.labels)
    for label, size in enumerate(sizes):
        assert abs(counts[label] - size * len(part) / len(whole)) < 1
    assert part.warnings == ("w",)
    assert whole.limited(None) is whole


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_limit_of_an_unlabeled_folder(count: int, limit: int) -> None:
    whole = ImageFolder(Path("x"), tuple(Path(f"{index}.png") for index in range(count)), None)
    part = whole.limited(limit)
    assert len(part) == min(count, limit)
    assert part.labels is None
    assert set(part.paths) <= set(whole.paths)
