"""The average precision is that of COCO's own evaluation, to 1e-6, and so are the matches behind it."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cloformer_deploy.tasks import precision_drops
from cloformer_deploy.tasks.average_precision import Objects, mean_precision, packed, precisions, unpacked
from cloformer_deploy.tasks.boxes import Detections
from cloformer_deploy.tasks.detection import detections_of
from tests.tasks.detecting import CLASSES, Rows, objects, outputs

SIDE = 1024
"""Boxes are given to COCO's evaluation in pixels of such an image, so that its area ranges do not matter."""


def coco_evaluation(truths: list[Rows], found: list[Detections]) -> COCOeval:
    """COCO's evaluation of the same objects and detections."""
    annotations: list[dict[str, Any]] = []
    for image, rows in enumerate(truths, start=1):
        for row in rows:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(row[4]) + 1, "bbox": xywh(row[:4])}
                | {"iscrowd": int(row[5]), "area": float(np.prod(xywh(row[:4])[2:]))}
            )
    results = [
        {"image_id": image, "category_id": int(kind) + 1, "bbox": xywh(box), "score": float(score)}
        for image, each in enumerate(found, start=1)
        for box, score, kind in zip(each.boxes, each.scores, each.classes, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "annotations": annotations,
            "categories": [{"id": index + 1, "name": str(index)} for index in range(CLASSES)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def xywh(box: NDArray[np.float32]) -> list[float]:
    left, top, right, bottom = (float(edge) * SIDE for edge in box)
    return [left, top, right - left, bottom - top]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([0.002, 0.02, 0.05])
)
def test_it_is_that_of_coco(count: int, seed: int, ignored: float, noise: float) -> None:
    truths = objects(count, seed, ignored)
    found = [detections_of(outputs(truths, seed + 1, noise), index) for index in range(count)]
    evidence = [packed(each, Objects.of(rows), CLASSES) for each, rows in zip(found, truths, strict=True)]
    classes = unpacked(evidence, CLASSES)
    expected = coco_evaluation(truths, found).eval["precision"][:, :, :, 0, 0]
    for index in range(CLASSES):
        theirs = expected[:, :, index].mean(axis=1)
        if index not in classes:
            assert (theirs == -1).all()
            continue
        ours = precisions(classes[index], np.ones((1, count)))[0]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    if classes:
        whole = expected[:, :, sorted(classes)].mean()
        assert precision_drops.score(classes) == pytest.approx(whole, abs=1e-6)
        assert precision_drops.at_half(classes) == pytest.approx(expected[0][:, sorted(classes)].mean(), abs=1e-6)


def test_a_weight_of_two_is_the_image_twice() -> None:
    truths = objects(6, 0)
    found = [detections_of(outputs(truths, 1, 0.03), index) for index in range(6)]
    evidence = [packed(each, Objects.of(rows), CLASSES) for each, rows in zip(found, truths, strict=True)]
    weighted, repeated = unpacked(evidence, CLASSES), unpacked([*evidence, evidence[2], evidence[4]], CLASSES)
    weights = np.array([[1.0, 1, 2, 1, 2, 1]])
    for index, matches in weighted.items():
        np.testing.assert_allclose(
            precisions(matches, weights), precisions(repeated[index], np.ones((1, 8))), atol=1e-12
        )


def test_a_set_without_objects_of_a_class_leaves_it_out() -> None:
    truths = [np.array([[0.1, 0.1, 0.5, 0.5, index, 0]], np.float32) for index in (0, 1)]
    evidence = [
        packed(Detections(rows[:, :4], np.ones(1, np.float32), rows[:, 4].astype(np.int64)), Objects.of(rows), 2)
        for rows in truths
    ]
    classes = unpacked(evidence, 2)
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert np.isnan(precisions(classes[1], weights)[0]).all()
    assert mean_precision([precisions(each, weights) for each in classes.values()]).tolist() == [1, 1]


def test_intervals_hold_the_fall_and_p_values_are_right_where_nothing_changed() -> None:
    truths = objects(60, 3)
    before, worse = outputs(truths, 4, 0.01), outputs(truths, 4, 0.05)
    sides = []
    for each in (before, worse, outputs(truths, 5, 0.01)):
        packs = [packed(detections_of(each, index), Objects.of(truths[index]), CLASSES) for index in range(60)]
        sides.append(unpacked(packs, CLASSES))
    sound, bad, other = sides
    fall = 100 * (precision_drops.score(sound) - precision_drops.score(bad))
    found = precision_drops.drops(sound, bad)
    assert found.interval[0] < fall < found.interval[1]
    assert found.interval[0] > 5
    assert all(item.p_value < 0.05 and item.drop_pp > 0 for item in found.classes)
    same = precision_drops.drops(sound, other)
    assert same.interval[0] < 0 < same.interval[1]
    assert all(item.p_value > 0.05 for item in same.classes)
    assert precision_drops.drops(sound, sound).classes == ()


@pytest.mark.filterwarnings("error")
def test_classes_in_few_images_have_intervals_without_a_warning() -> None:
    truths = objects(3, 7)
    sides = []
    for noise in (0.01, 0.04):
        made = outputs(truths, 8, noise)
        packs = [packed(detections_of(made, index), Objects.of(truths[index]), CLASSES) for index in range(3)]
        sides.append(unpacked(packs, CLASSES))
    found = precision_drops.drops(*sides)
    assert found.classes
    assert all(item.drop_ci95_pp[0] <= item.drop_ci95_pp[1] for item in found.classes)
