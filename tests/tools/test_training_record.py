"""The log across kills, and the image drawn of it."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tools.samples import tiny_recipe
from tools.training.record import Log, draw_curve, images_per_second

pytestmark = pytest.mark.integration

LINES = [
    {"step": 2, "size": "32", "loss": 0.9, "images_per_s": 10.0},
    {"step": 4, "size": "32", "loss": 0.8, "images_per_s": 30.0},
    {"step": 4, "size": "32", "score": 0.5, "n": 16},
    {"step": 10, "size": "64", "loss": 0.7, "images_per_s": 5.0},
]


def test_lines_after_the_step_that_is_taken_up_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, 0)
    for line in LINES:
        log.add(**line)
    with path.open("a") as file:
        file.write('{"step": 11, "los')
    assert log.lines() == LINES
    assert Log(path, 4).lines() == LINES[:3]


def test_speed_is_told_by_size() -> None:
    assert images_per_second(LINES) == {"32": 20.0, "64": 5.0}


@pytest.mark.parametrize("lines", [LINES, []])
def test_the_curve_is_an_image(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    draw_curve(tmp_path / "curve.png", lines, tiny_recipe())
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert image.width > 500
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
