"""Scenes: exact masks and boxes, balanced classes, sizes, and the forms they are written in."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cloformer_deploy.data import Preprocessing, RenderedScenes, open_masks
from cloformer_deploy.data.masks import IGNORED
from cloformer_deploy.data.rendered import CLASSES, SCENE_CLASSES, SPLITS, render_scene
from cloformer_deploy.data.rendered.scenes import BLOCK, MOST_OBJECTS, _judged, _moved, scene_classes
from cloformer_deploy.data.rendered.writing import run_lengths, write_coco, write_masks
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Silent

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("split", SPLITS)
def test_every_block_has_each_class_equally_often(split: str) -> None:
    for first in (0, 3 * BLOCK):
        dealt = [scene_classes(split, index) for index in range(first, first + BLOCK)]
        assert Counter(map(len, dealt)) == dict.fromkeys(range(1, MOST_OBJECTS + 1), 4)
        assert Counter(item for scene in dealt for item in scene) == dict.fromkeys(range(len(CLASSES)), 3)
    assert scene_classes(split, 0) != scene_classes(split, BLOCK)


@pytest.mark.parametrize("index", range(12))
def test_boxes_and_masks_are_of_the_same_pixels(index: int) -> None:
    scene = render_scene("test", index)
    assert scene.pixels.shape == (224, 224, 3)
    assert scene.pixels.dtype == scene.mask.dtype == np.uint8
    assert set(np.unique(scene.owners)) <= {0, IGNORED, *range(1, len(scene.objects) + 1)}
    for number, item in enumerate(scene.objects, start=1):
        rows, columns = np.nonzero(scene.owners == number)
        assert item.area == len(rows) > 0
        assert item.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert set(scene.mask[rows, columns]) == {IGNORED if item.ignored else item.index + 1}
    assert {item.index for item in scene.objects} <= set(scene_classes("test", index))


def test_a_mask_is_where_its_object_was_drawn() -> None:
    """The pixels of an object differ from the same scene's background more than the background itself varies."""
    inside, around = [], []
    for index in range(40):
        scene = render_scene("test", index)
        gray = scene.pixels.astype(float).mean(axis=2)
        edges = np.zeros(scene.mask.shape, bool)
        edges[:, 1:] = scene.owners[:, 1:] != scene.owners[:, :-1]
        steps = np.abs(np.diff(gray, axis=1, prepend=gray[:, :1]))
        inside.append(steps[edges].mean())
        around.append(steps[~edges].mean())
    assert np.mean(inside) > 2 * np.mean(around)


@pytest.mark.parametrize("size", [(32, 32), (96, 224), (256, 64)])
def test_other_sizes(size: tuple[int, int]) -> None:
    scene = render_scene("train", 4, *size)
    assert scene.pixels.shape == (*size, 3)
    assert scene.mask.shape == size


@pytest.mark.parametrize(
    ("split", "index", "size", "words"),
    [
        ("holdout", 0, 224, "no scene"),
        ("test", -1, 224, "no scene"),
        ("test", 0, 100, "multiples of 32"),
        ("test", 0, 0, "multiples of 32"),
    ],
)
def test_there_is_no_such_scene(split: str, index: int, size: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render_scene(split, index, size, 224)


def test_no_scene_is_in_two_places() -> None:
    seen = {render_scene(split, index, 64, 64).pixels.tobytes() for split in SPLITS for index in (0, 1, BLOCK)}
    assert len(seen) == 3 * len(SPLITS)


def test_hidden_objects_are_dropped_and_nearly_hidden_ones_ignored() -> None:
    owners = np.zeros((8, 8), np.uint8)
    owners[2:4, 1:7] = 3
    owners[5, 5] = 1
    scene = _judged(np.zeros((8, 8, 3), np.uint8), owners, (4, 9, 11), (20, 30, 12))
    assert [(item.index, item.box, item.area, item.ignored) for item in scene.objects] == [
        (4, (5, 5, 6, 6), 1, True),
        (11, (1, 2, 7, 4), 12, False),
    ]
    assert Counter(scene.mask.ravel().tolist()) == {0: 51, IGNORED: 1, 12: 12}
    assert scene.owners.max() == 2


@pytest.mark.parametrize("moved", [(0, 2), (1, 0), (2, -1), (0, 0)])
def test_a_mask_moves_with_motion_blur(moved: tuple[int, int]) -> None:
    owners = np.zeros((8, 8), np.uint8)
    owners[4, 4] = 1
    shifted = _moved(owners, moved)
    assert shifted[4 + moved[0], 4 + moved[1]] == 1
    unknown = (shifted == IGNORED).sum()
    assert unknown == 8 * (abs(moved[0]) + abs(moved[1])) - abs(moved[0] * moved[1])


def test_a_range_is_an_image_set_with_masks() -> None:
    scenes = RenderedScenes("test", range(4, 8))
    (batch,) = scenes.batches(Preprocessing.published(64, 96, margin=False), 4)
    assert batch.pixels.shape == (4, 3, 64, 96)
    assert batch.truths is not None
    assert np.array_equal(batch.truths[3], render_scene("test", 7, 64, 96).mask)
    assert batch.labels is None
    (plain,) = RenderedScenes("test", range(4), None).batches(Preprocessing.published(32, 32), 4)
    assert plain.truths is None
    assert len(scenes.limited(9)) == 9
    assert scenes.select([2, 0]).identity(1) == scenes.identity(0) == "rendered scenes 1 test 4"


def test_written_with_masks_it_is_segmentation_data(tmp_path: Path) -> None:
    write_masks("test", range(3), (32, 64), tmp_path / "data", Silent())
    folder = open_masks(tmp_path / "data", len(SCENE_CLASSES))
    preprocessing = Preprocessing.published(32, 64, margin=False)
    for index in range(3):
        scene = render_scene("test", index, 32, 64)
        assert np.array_equal(folder.truth(index, preprocessing), scene.mask)
        assert np.array_equal(folder.load(index, preprocessing), scene.pixels.transpose(2, 0, 1))
    with pytest.raises(RequestError, match="exists"):
        write_masks("test", range(3), (32, 64), tmp_path / "data", Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_written_with_annotations_it_is_coco_data(tmp_path: Path) -> None:
    write_coco("test", range(5, 9), (96, 64), tmp_path / "data", Silent())
    document = json.loads((tmp_path / "data" / "annotations.json").read_text())
    assert [item["name"] for item in document["categories"]] == list(CLASSES)
    assert [item["id"] for item in document["annotations"]] == list(range(1, 1 + len(document["annotations"])))
    for image in document["images"]:
        with Image.open(tmp_path / "data" / "images" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"]) == (64, 96)
        scene = render_scene("test", image["id"], 96, 64)
        mine = [item for item in document["annotations"] if item["image_id"] == image["id"]]
        assert [item["category_id"] - 1 for item in mine] == [item.index for item in scene.objects]
        for entry, item in zip(mine, scene.objects, strict=True):
            left, top, right, bottom = item.box
            assert entry["bbox"] == [left, top, right - left, bottom - top]
            assert entry["iscrowd"] == item.ignored
            assert sum(entry["segmentation"]["counts"][1::2]) == entry["area"] == item.area


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_run_lengths_describe_the_mask(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    lengths = run_lengths(mask)
    values = np.concatenate([np.full(length, place % 2, bool) for place, length in enumerate(lengths)])
    assert np.array_equal(values.reshape(mask.shape[::-1]).T, mask)
    assert all(length > 0 for length in lengths[1:])
