"""`calibrate`: its answers, warnings and refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.data import bundled_calibration, open_calibration
from tests.cli.command_line import invoke, parsed, spawn
from tests.cli.refusals import Case, check, ids


def photos(folder: Path, count: int = 4) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / "photos" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)


def test_the_json_answer(tmp_path: Path) -> None:
    photos(tmp_path)
    made = invoke(
        "calibrate", "photos", "--count", "3", "--seed", "7", "--input-size", "32x64", "--output", "s", "--json"
    )
    assert made.code == 0, made.said
    answer = parsed(made.stdout)
    opened = open_calibration(Path("s"))
    assert answer == {
        "schema_version": 1,
        "output": "s",
        "source": "photos",
        "sha256": opened.sha256,
        "n": 3,
        "seed": 7,
        "classes": {"a": 2, "b": 1},
        "warnings": ["ranges from 3 images are unreliable: calibrate with 32 or more"],
    }
    assert f"Warning: {answer['warnings'][0]}" in made.stderr
    assert (opened.preprocessing.height, opened.preprocessing.width) == (32, 64)


@pytest.mark.parametrize("form", ["masks", "coco"])
def test_data_of_dense_tasks_are_scaled_without_a_margin(form: str, tmp_path: Path) -> None:
    assert invoke("render", "--output", "data", "--form", form, "--count", "2", "--size", "64").code == 0
    made = invoke("calibrate", "data", "--count", "2", "--output", "s", "--input-size", "64")
    assert made.code == 0, made.said
    assert open_calibration(Path("s")).preprocessing.resize.cover == (64, 64)


def test_lines_for_people(tmp_path: Path) -> None:
    photos(tmp_path)
    made = invoke("calibrate", "photos", "--output", "new/set", "--input-size", "32")
    assert made.code == 0, made.said
    sha256 = open_calibration(Path("new/set")).sha256
    assert made.stdout.splitlines() == [
        "4 images (photos) in new/set",
        "2 classes, 2 images each",
        f"sha256 {sha256}",
    ]
    assert "photos has 4 different images, fewer than the 256 asked for: all are used" in made.stderr


@pytest.mark.integration
def test_rendered_by_default_is_the_set_that_ships(tmp_path: Path) -> None:
    made = spawn("calibrate", "rendered", "--output", "set", "--json", cwd=tmp_path)
    assert made.code == 0, made.said
    answer = parsed(made.stdout)
    assert answer["sha256"] == bundled_calibration("rendered").sha256
    assert answer["warnings"] == []
    assert "256 of 256" in made.stderr


def broken(folder: Path) -> None:
    photos(folder)
    (folder / "photos" / "a" / "0.png").write_bytes(b"not an image")


def taken(folder: Path) -> None:
    photos(folder)
    (folder / "set").write_text("my notes")


def refused(name: str, *args: str, told: str, make: Callable[[Path], object] = photos) -> Case:
    return Case(name, ("calibrate", *args, "--output", "set"), (told,), make=make)


CASES = [
    refused("broken-image", "photos", told="photos/a/0.png", make=broken),
    refused("missing-folder", "fotos", told="fotos is not a folder"),
    refused("no-such-folder-called-rendered", "./rendered", told="rendered is not a folder"),
    refused("a-file", "photos/a/0.png", told="not a folder"),
    refused("no-images", "photos", told="no images that are read", make=lambda folder: (folder / "photos").mkdir()),
    refused("output-is-something-else", "photos", told="is not a calibration set", make=taken),
    refused("size", "photos", "--input-size", "33", told="33"),
    refused("size-text", "photos", "--input-size", "big", told="'big'"),
    Case("output-is-a-folder", ("calibrate", "photos", "--output", "photos"), ("photos exists",), make=photos),
    Case("no-output", ("calibrate", "photos"), ("--output",), make=photos, usage=True),
    Case("count", ("calibrate", "photos", "--output", "s", "--count", "0"), ("--count",), make=photos, usage=True),
    Case("seed", ("calibrate", "photos", "--output", "s", "--seed", "-1"), ("--seed",), make=photos, usage=True),
]


@pytest.mark.parametrize("case", ids(CASES))
def test_refusals(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
