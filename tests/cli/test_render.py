"""`render`: a folder of images that validate takes, and its refusals."""

from pathlib import Path

import pytest

from tests.cli.command_line import CopyBundle, invoke, parsed
from tests.cli.contract import validated


@pytest.mark.integration
def test_rendered_folder_is_what_validate_looks_at_by_itself(drafted: CopyBundle, tmp_path: Path) -> None:
    drafted()
    made = invoke("render", "--count", "20", "--output", "images", "--json")
    assert made.code == 0, made.said
    assert parsed(made.stdout) == {
        "schema_version": 1,
        "output": "images",
        "split": "test",
        "first": 0,
        "count": 20,
        "form": "classes",
    }
    from_folder = validated("--data", "images", code=1)
    by_itself = validated("--limit", "20", code=1)
    assert by_itself["images"] == "rendered test 0-19"
    assert from_folder["images"] == "images"
    # The folder's order is the classes', which for one image of each class is the task's own.
    assert from_folder["reference"] == by_itself["reference"]
    assert from_folder["artifacts"] == by_itself["artifacts"]


def test_a_line_for_people(tmp_path: Path) -> None:
    made = invoke("render", "--split", "train", "--first", "5", "--count", "2", "--output", "a/b")
    assert made.code == 0
    assert "2 images (rendered train 5-6) in a/b" in made.stdout
    assert sorted(str(path.relative_to("a/b")) for path in Path("a/b").rglob("*.png")) == [
        "checkerboard/train-000005.png",
        "clock/train-000006.png",
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--split", "holdout", "--output", "x"), "'holdout'"),
        (("--count", "0", "--output", "x"), "--count"),
        (("--first", "-1", "--output", "x"), "--first"),
        ((), "--output"),
        (("--form", "boxes", "--output", "x"), "'boxes'"),
        (("--size", "256", "--output", "x"), "leave --size out"),
        (("--form", "masks", "--size", "200", "--output", "x"), "200 is not a multiple of 32"),
        (("--form", "masks", "--size", "a", "--output", "x"), "--size 'a'"),
        (("--output", "taken"), "taken"),
        (("--output", "taken/mine.txt"), "mine.txt"),
    ],
)
def test_refusals(args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    shown = invoke("render", *args)
    assert shown.code == 2
    assert words in shown.said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "taken"]


@pytest.mark.parametrize(("form", "files"), [("masks", {"images", "masks"}), ("coco", {"images", "annotations.json"})])
def test_scenes(form: str, files: set[str], tmp_path: Path) -> None:
    made = invoke("render", "--form", form, "--size", "32x64", "--first", "3", "--count", "2", "--output", "scenes")
    assert made.code == 0, made.said
    assert "2 images (rendered scenes test 3-4) in scenes" in made.stdout
    assert {path.name for path in Path("scenes").iterdir()} == files
