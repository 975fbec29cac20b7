"""COCO annotations: what is read, what is refused, and boxes in the way that images go."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.data import Preprocessing, open_coco
from cloformer_deploy.data.coco import category_names, is_coco
from cloformer_deploy.data.rendered.writing import write_coco
from cloformer_deploy.errors import DataError
from cloformer_deploy.progress import Silent

LABELS = ("cat", "Big Dog")


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 64, "height": 32},
            {"id": 3, "file_name": "b.png", "width": 64, "height": 64},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [16, 8, 16, 16], "iscrowd": 0, "extra": []},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 10.5, 32], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 4, "bbox": [1, 2, 0, 5]},
        ],
        "categories": [{"id": 4, "name": "big_dog"}, {"id": 9, "name": "Cat"}, {"id": 0, "name": "unused"}],
    }


def write(folder: Path, known: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for name, size in (("a.png", (64, 32)), ("b.png", (64, 64))):
        Image.new("RGB", size).save(folder / "images" / name)
    (folder / "annotations.json").write_text(json.dumps(known))
    return folder


def test_categories_are_matched_by_name_and_boxes_become_shares(tmp_path: Path) -> None:
    found = open_coco(write(tmp_path, content()), 2, LABELS)
    assert (len(found), found.labels, found.has_targets) == (2, None, True)
    assert found.warnings == (f"1 box of {tmp_path / 'annotations.json'} without an area left out",)
    rows = found.truth(0, Preprocessing.published(32, 64, margin=False))
    assert np.allclose(rows, [[0.25, 0.25, 0.5, 0.75, 0, 0], [0, 0, 10.5 / 64, 1, 1, 1]])
    assert found.truth(1, Preprocessing.published(64, 64, margin=False)).shape == (0, 6)
    (batch,) = found.batches(Preprocessing.published(32, 32, margin=False), 2)
    assert batch.truths is not None
    assert len(batch.truths) == 2


def test_a_crop_moves_boxes_and_what_hardly_is_left_of_one_is_ignored(tmp_path: Path) -> None:
    found = open_coco(write(tmp_path, content()), 2, LABELS)
    rows = found.truth(0, Preprocessing.published(32, 32, margin=False))
    assert np.allclose(rows, [[0, 0.25, 0.5, 0.75, 0, 0]])  # columns 16 to 48 are kept
    known = content()
    known["annotations"][1]["bbox"] = [0, 0, 20, 32]
    known["annotations"][1]["iscrowd"] = 0
    rows = open_coco(write(tmp_path, known), 2, LABELS).truth(0, Preprocessing.published(32, 32, margin=False))
    assert np.allclose(rows[1], [0, 0, 4 / 32, 1, 1, 1])


def test_the_json_file_itself_and_images_beside_it(tmp_path: Path) -> None:
    write(tmp_path, content())
    for path in (tmp_path / "images").iterdir():
        path.rename(tmp_path / path.name)
    assert is_coco(tmp_path / "annotations.json")
    assert is_coco(tmp_path)
    assert not is_coco(tmp_path / "images")
    assert len(open_coco(tmp_path / "annotations.json", 2, LABELS)) == 2
    assert category_names(tmp_path) == ("big_dog", "Cat")


def test_without_labels_the_order_of_the_numbers_is_an_assumption(tmp_path: Path) -> None:
    found = open_coco(write(tmp_path, content()), 2, None)
    assert found.objects[0][:, 4].tolist() == [1, 0]
    assert "in the order of their numbers" in found.warnings[0]
    with pytest.raises(DataError, match="2 categories, the model 3 classes"):
        open_coco(tmp_path, 3, None)


def test_equal_images_with_other_boxes_have_other_identities(tmp_path: Path) -> None:
    first = open_coco(write(tmp_path, content()), 2, LABELS).identity(0)
    known = content()
    known["annotations"][0]["bbox"][0] = 17
    assert open_coco(write(tmp_path, known), 2, LABELS).identity(0) != first


def changed(path: str, value: Any) -> dict[str, Any]:
    known = content()
    *way, last = path.split(".")
    place: Any = known
    for part in way:
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    return known


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("images.0.file_name", "../a.png", "outside of its folder"),
        ("images.0.file_name", "/etc/passwd", "outside of its folder"),
        ("images.0.file_name", "c.png", "neither beside it"),
        ("images.0.file_name", 5, "file_name 5, not str"),
        ("images.0.id", True, "id True, not int"),
        ("images", [], "names no images"),
        ("images", {}, "no list of objects 'images'"),
        ("annotations.0.image_id", 99, "a box for image 99"),
        ("annotations.0.category_id", 99, "without a name: 99"),
        ("annotations.0.bbox", [1, 2, 3], "bbox"),
        ("annotations.0.bbox", [1, 2, 3, float("nan")], "bbox"),
        ("annotations.0.bbox", [1, 2, 3, "4"], "bbox"),
        ("categories.0.name", "horse", "no classes of the model: horse"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, path: str, value: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        open_coco(write(tmp_path, changed(path, value)), 2, LABELS)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"images": [3]}', "\xff"])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, {})
    (tmp_path / "annotations.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        open_coco(tmp_path, 2, LABELS)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    found = open_coco(write(tmp_path, changed("images.0.width", 65)), 2, LABELS)
    with pytest.raises(DataError, match="64 x 32 pixels, its annotations are for 65 x 32"):
        found.truth(0, Preprocessing.published(32, 32, margin=False))


def test_what_render_writes_is_read(tmp_path: Path) -> None:
    from cloformer_deploy.data.rendered import CLASSES
    from cloformer_deploy.data.rendered.scenes import render_scene

    write_coco("test", range(3), (64, 96), tmp_path / "scenes", Silent())
    found = open_coco(tmp_path / "scenes", len(CLASSES), CLASSES)
    for index in range(3):
        ours = found.truth(index, Preprocessing.published(64, 96, margin=False))
        assert np.allclose(ours, render_scene("test", index, 64, 96).boxes, atol=1e-6)
