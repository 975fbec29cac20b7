"""Overlaps, and non-maximum suppression against its definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cloformer_deploy.tasks.boxes import detections, overlaps, suppressed

UNIT = st.floats(0, 1, width=32)


def by_definition(boxes: NDArray[np.float32], scores: NDArray[np.float32], most: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda place: (-scores[place], place)):
        if all(overlaps(boxes[[index]], boxes[[other]])[0, 0] <= most for other in kept):
            kept.append(index)
    return kept


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (12, 4), elements=UNIT), arrays(np.float32, 12, elements=UNIT), st.sampled_from([0.3, 0.6]))
def test_suppression(corners: NDArray[np.float32], scores: NDArray[np.float32], most: float) -> None:
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    assert suppressed(boxes, scores, most).tolist() == by_definition(boxes, scores, most)


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
