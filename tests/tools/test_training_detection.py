"""Assignment and losses of detectors, and that a small one learns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cloformer_deploy.data.rendered.scenes import render_scene
from cloformer_deploy.tasks.boxes import areas
from cloformer_deploy.tasks.boxes import overlaps as known_overlaps
from tools.training.augmentation import moved_objects
from tools.training.detection import (
    CELLS_OF_AN_OBJECT,
    Detection,
    assigned,
    centers,
    filled,
    generalized_overlap,
    overlaps,
)
from tools.training.rendered import BOXES

SIZE = (64, 96)
PLACES = centers(SIZE)
UNIT = st.floats(0, 1, width=32)


def corners(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])
    return np.concatenate([low, high], axis=1)


def test_centers_are_those_of_the_cells_map_by_map() -> None:
    assert PLACES.shape == (96 + 24 + 6, 4)
    assert PLACES[0].tolist() == pytest.approx([4 / 96, 4 / 64, 8 / 96, 8 / 64])
    assert PLACES[96 + 7].tolist() == pytest.approx([24 / 96, 24 / 64, 16 / 96, 16 / 64])
    assert PLACES[-1].tolist() == pytest.approx([80 / 96, 48 / 64, 32 / 96, 32 / 64])


SMALLEST_AREA = 2e-9
"""Both boxes together, as a share of the image. Training divides by 1e-9 at least, so for smaller ones it differs."""


@settings(deadline=None, max_examples=30)
@given(arrays(np.float32, (6, 4), elements=UNIT), arrays(np.float32, (6, 4), elements=UNIT))
def test_overlaps_are_those_of_the_task_and_giou_is_below(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> None:
    first, second = corners(first), corners(second)
    ours = overlaps(torch.from_numpy(first), torch.from_numpy(second))
    seen = areas(first) + areas(second) > SMALLEST_AREA
    assert np.allclose(ours[seen], known_overlaps(first, second).diagonal()[seen], atol=1e-5)
    giou = generalized_overlap(torch.from_numpy(first), torch.from_numpy(second))
    assert (giou <= ours + 1e-6).all()
    assert (giou >= -1 - 1e-6).all()


def test_cells_answer_for_the_object_they_lie_in_and_the_best_one_is_of_its_overlap() -> None:
    objects = torch.tensor([[0.1, 0.1, 0.5, 0.6, 1, 0], [0.6, 0.3, 0.9, 0.9, 0, 0], [0.0, 0.7, 0.3, 1.0, 1, 1]])
    boxes = torch.cat([PLACES[:, :2] - 0.2, PLACES[:, :2] + 0.2], 1).clamp(0, 1)
    scores = torch.full((len(PLACES), 2), 0.01)
    quality, owner, counted = assigned(boxes, scores, objects, PLACES)
    for index in (0, 1):
        mine = owner == index
        assert 1 <= int(mine.sum()) <= CELLS_OF_AN_OBJECT
        low, high = objects[index, :2], objects[index, 2:4]
        assert bool(((PLACES[mine, :2] > low) & (PLACES[mine, :2] < high)).all())
        kind = int(objects[index, 4])
        best = overlaps(boxes[mine], objects[index, :4].expand(int(mine.sum()), 4)).max()
        assert float(quality[mine, kind].max()) == pytest.approx(float(best))
        assert float(quality[mine, 1 - kind].max()) == 0
    assert not bool((owner == 2).any())
    ignored = ((PLACES[:, :2] > objects[2, :2]) & (PLACES[:, :2] < objects[2, 2:4])).all(1)
    assert not counted[ignored & (quality[:, 1] == 0), 1].any()
    assert bool(counted[:, 0].all())


def test_an_object_smaller_than_any_cell_has_a_cell() -> None:
    objects = torch.tensor([[0.5, 0.5, 0.5 + 1e-3, 0.5 + 1e-3, 0, 0]])
    boxes = torch.cat([PLACES[:, :2] - 0.1, PLACES[:, :2] + 0.1], 1)
    quality, owner, _ = assigned(boxes, torch.full((len(PLACES), 1), 0.01), objects, PLACES)
    assert int((owner == 0).sum()) == 1
    assert float(quality.sum()) > 0


def test_the_loss_leads_to_the_objects() -> None:
    torch.manual_seed(0)
    truth = np.array([[0.1, 0.1, 0.5, 0.6, 1, 0], [0.6, 0.3, 0.9, 0.9, 0, 0]], np.float32)
    targets = filled(truth)[None]
    logits = torch.full((1, len(PLACES), 2), -4.0, requires_grad=True)
    reach = torch.full((1, len(PLACES), 4), 0.1, requires_grad=True)
    optimizer = torch.optim.Adam([logits, reach], lr=0.05)
    objective = Detection()

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        sides = torch.relu(reach)
        boxes = torch.cat([PLACES[None, :, :2] - sides[..., :2], PLACES[None, :, :2] + sides[..., 2:]], -1)
        return boxes, torch.sigmoid(logits)

    before = objective.score([(tuple(each.detach() for each in outputs()), targets)])  # type: ignore[list-item]
    for _ in range(300):
        loss = objective.loss(outputs(), targets, SIZE)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    after = objective.score([(tuple(each.detach() for each in outputs()), targets)])  # type: ignore[list-item]
    assert before < 0.1
    assert after > 0.9


@pytest.mark.parametrize("index", range(3))
def test_objects_of_a_numbered_scene_are_those_of_the_scene(index: int) -> None:
    pixels = BOXES.render("train", index)
    scene = render_scene("train", index)
    assert BOXES.target is not None
    found, known = BOXES.target(pixels[..., 3]), scene.boxes
    order = [sorted(rows.tolist()) for rows in (found, known)]
    assert np.allclose(order[0], order[1])


def test_objects_move_with_a_crop() -> None:
    objects = np.array([[0.25, 0.5, 0.5, 1.0, 3, 0], [0.0, 0.0, 0.3, 0.2, 1, 0], [0.9, 0.9, 1, 1, 2, 0]], np.float32)
    found = moved_objects(objects, (50, 0, 150, 100), (200, 100), flipped=False)
    assert np.allclose(found, [[0, 0.5, 0.5, 1, 3, 0], [0, 0, 0.1, 0.2, 1, 1]])
    flipped = moved_objects(objects, (50, 0, 150, 100), (200, 100), flipped=True)
    assert np.allclose(flipped[0], [0.5, 0.5, 1, 1, 3, 0])
