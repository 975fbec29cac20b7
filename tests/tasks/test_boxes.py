"""Overlaps, and non-maximum suppression against its definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cloformer_deploy.tasks.boxes import detections, overlaps, suppressed

UNIT = st.floats(0, 1, width=32)


def by_definition(boxes: NDArray[np.float32], classes: NDArray[np.int64], most_overlap: float) -> list[int]:
    kept: list[int] = []
    for index in range(len(boxes)):
        same = [other for other in kept if classes[other] == classes[index]]
        if all(overlaps(boxes[[index]], boxes[[other]])[0, 0] <= most_overlap for other in same):
            kept.append(index)
    return kept


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (12, 4), elements=UNIT),
    arrays(np.int64, 12, elements=st.integers(0, 1)),
    st.sampled_from([0.3, 0.6]),
    st.integers(1, 12),
)
def test_suppression(corners: NDArray[np.float32], classes: NDArray[np.int64], overlap: float, most: int) -> None:
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    assert suppressed(boxes, classes, overlap, most) == by_definition(boxes, classes, overlap)[:most]


def test_more_boxes_than_are_compared_at_a_time() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 0.7, (600, 2))
    boxes = np.hstack([low, low + random.uniform(0.1, 0.3, (600, 2))]).astype(np.float32)
    classes = random.integers(0, 2, 600)
    expected = by_definition(boxes, classes, 0.3)
    assert 256 < expected[-1] < 600
    assert suppressed(boxes, classes, 0.3, 600) == expected


def test_overlaps_of_known_boxes() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.2, 0.9]], np.float32)
    found = overlaps(boxes, boxes)
    assert np.allclose(found[0], [1, 1 / 3, 0, 0])
    assert found[3, 3] == 0


def test_detections_of_one_cell_in_two_classes_are_both_kept_and_classes_do_not_suppress_one_another() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.01, 0, 0.5, 0.5]], np.float32)
    scores = np.array([[0.9, 0.3], [0.8, 0.4]], np.float32)
    found = detections(boxes, scores)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == [np.float32(0.9), np.float32(0.4)]
    assert np.array_equal(found.boxes, boxes)
    assert len(detections(boxes, scores, most=1)) == 1
    assert len(detections(boxes, scores * np.nan)) == 0
