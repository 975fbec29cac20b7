"""Detections as pictures: boxes where they are, in their class's color, and those that only one side has."""

import numpy as np
from PIL import Image

from cloformer_deploy.data.masks import palette
from cloformer_deploy.report.html.boxes import Boxes
from cloformer_deploy.report.html.pictures import DRAWINGS, legend
from cloformer_deploy.tasks import TASKS
from tests.tasks.detecting import TASK, Outputs

BLANK = Image.new("RGB", (64, 32), "gray")
GRAY, WHITE, RED = (128, 128, 128), (255, 255, 255), (255, 0, 0)


def outputs(boxes: list[list[float]], classes: list[int], score: float = 0.9) -> Outputs:
    scores = np.zeros((1, len(boxes), 4), np.float32)
    scores[0, np.arange(len(boxes)), classes] = score
    return {"boxes": np.array([boxes], np.float32), "scores": scores}


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(np.asarray(image)[y, x].tolist())


def test_every_drawing_is_of_a_task() -> None:
    assert DRAWINGS.keys() <= TASKS.keys()


def test_a_box_is_drawn_on_its_edges_in_the_color_of_its_class() -> None:
    drawn = Boxes().answer(BLANK, outputs([[0.25, 0.25, 0.75, 1.0]], [2]))
    color = tuple(palette()[3].tolist())
    assert [pixel(drawn, x, 20) for x in (15, 16, 47, 48)] == [GRAY, color, color, GRAY]
    assert [pixel(drawn, 30, y) for y in (7, 8, 31)] == [GRAY, color, color]
    assert pixel(drawn, 30, 20) == GRAY
    assert legend(["a", "b", "c"], Boxes.first_color)[2] == ("c", "#{:02x}{:02x}{:02x}".format(*color))
    assert np.array_equal(np.asarray(BLANK), np.asarray(Image.new("RGB", (64, 32), "gray")))


def test_low_scores_and_ignored_objects_are_left_out() -> None:
    faint = Boxes().answer(BLANK, outputs([[0.25, 0.25, 0.75, 1.0]], [2], score=0.2))
    ignored = Boxes().truth(BLANK, np.array([[0.25, 0.25, 0.75, 1.0, 2, 1]], np.float32))
    assert np.array_equal(np.asarray(faint), np.asarray(BLANK))
    assert np.array_equal(np.asarray(ignored), np.asarray(BLANK))


def test_the_difference_shows_what_only_one_side_has() -> None:
    theirs = outputs([[0.0, 0.0, 0.25, 0.5], [0.5, 0.0, 0.75, 0.5]], [0, 1])
    mine = outputs([[0.0, 0.0, 0.25, 0.5], [0.5, 0.5, 0.75, 1.0]], [0, 1])
    drawn = Boxes().difference(BLANK, theirs, mine)
    assert pixel(drawn, 0, 0) == (0, 0, 0)
    assert pixel(drawn, 32, 0) == WHITE
    assert pixel(drawn, 32, 16) == RED


def test_the_agreement_is_that_of_the_evidence() -> None:
    theirs = outputs([[0.0, 0.0, 0.25, 0.5], [0.5, 0.0, 0.75, 0.5]], [0, 1])
    mine = outputs([[0.0, 0.0, 0.25, 0.5], [0.5, 0.5, 0.75, 1.0]], [0, 1])
    (evidence,) = TASK.evidence(mine, theirs)
    assert Boxes().agreement(evidence) == 0.5
    (evidence,) = TASK.evidence(outputs([[0, 0, 1, 1]], [0], 0.1), outputs([[0, 0, 1, 1]], [0], 0.1))
    assert Boxes().agreement(evidence) == 1
