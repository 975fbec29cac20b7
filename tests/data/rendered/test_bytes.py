"""Rendered images have the same bytes on every machine, with every instruction set that numpy may use."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.data.rendered import CLASSES, SIZE, SPLITS, label, render, render_scene

pytestmark = pytest.mark.integration

PINNED = json.loads(Path(__file__).with_name("sha256.json").read_text())
"""SHA-256 digests of the first 20 test images, and of the first 10 test scenes with their masks."""

PRINTS_SHA256 = """
import json
from tests.data.rendered.test_bytes import digests
print(json.dumps(digests()))
"""


def digests() -> dict[str, list[str]]:
    scenes = [render_scene("test", index) for index in range(10)]
    return {
        "images": [hashlib.sha256(render("test", index).tobytes()).hexdigest() for index in range(20)],
        "scenes": [hashlib.sha256(item.pixels.tobytes() + item.mask.tobytes()).hexdigest() for item in scenes],
    }


def test_pinned() -> None:
    assert len(PINNED["images"]) == 20
    assert digests() == PINNED


def test_numpys_choice_of_instructions_has_no_effect() -> None:
    listed = "from numpy._core import _multiarray_umath as m; print(*m.__cpu_dispatch__)"
    features = subprocess.run([sys.executable, "-c", listed], check=True, capture_output=True, text=True).stdout
    env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": features.strip()}
    # numpy warns about disabled features that this machine does not have.
    command = [sys.executable, "-W", "ignore", "-c", PRINTS_SHA256]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == PINNED


def test_shape_and_type() -> None:
    image = render("train", 7)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_no_image_is_in_two_places() -> None:
    seen = {render(split, index).tobytes() for split in SPLITS for index in (0, 1, 20, 10**6)}
    assert len(seen) == len(SPLITS) * 4


def test_every_run_of_20_has_each_class_once() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)  # so that the sorted sub-folders of an image folder are the labels
    assert {label(index) for index in range(33, 53)} == set(range(20))


@pytest.mark.parametrize(("split", "index"), [("holdout", 0), ("test", -1)])
def test_there_is_no_such_image(split: str, index: int) -> None:
    with pytest.raises(ValueError, match="there is no image"):
        render(split, index)
