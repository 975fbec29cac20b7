"""`export` with integers: which calibration sets it takes for which weights, and which precisions for which target."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloformer_deploy.backends.registry import BACKENDS, all_precisions
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.networks.cloformer import create_model
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.zoo import DEFAULT, bundled_checkpoints
from tests.cli.refusals import Case, check, ids

pytestmark = pytest.mark.integration

INT8 = ("export", "--format", "onnx", "--precision", "int8", "--output", "out")
OWN = (*INT8, "--weights", "own.pt", "--input-size", "32")
MAKE = "cloformer-deploy calibrate IMAGES --output FILE"
PHOTOGRAPHS = next(name for name in bundled_checkpoints() if name != DEFAULT)


@cache
def own_weights() -> bytes:
    content = io.BytesIO()
    torch.save(create_model("xxs", 3).state_dict(), content)
    return content.getvalue()


def own(folder: Path) -> None:
    (folder / "own.pt").write_bytes(own_weights())


def calibrated(folder: Path, images: str, side: int = 32) -> None:
    own(folder)
    make_calibration(images, 3, 0, Preprocessing.published(side, side), folder / "set", Silent())


def rendered(folder: Path) -> None:
    calibrated(folder, "rendered")


def photos(folder: Path, side: int = 32) -> None:
    (folder / "photos").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    calibrated(folder, str(folder / "photos"), side)


def larger(folder: Path) -> None:
    photos(folder, 64)


def cut(folder: Path) -> None:
    photos(folder)
    (folder / "set").write_bytes((folder / "set").read_bytes()[:-1])


def flipped(folder: Path) -> None:
    photos(folder)
    content = bytearray((folder / "set").read_bytes())
    content[-1] ^= 1
    (folder / "set").write_bytes(content)


CASES = [
    Case("own-weights-without-a-set", OWN, ("own", "calibration set", MAKE, "--calibration FILE"), make=own),
    Case("photographs-without-a-set", (*INT8, "--weights", PHOTOGRAPHS), (PHOTOGRAPHS, MAKE)),
    Case("rendered-for-own-weights", (*OWN, "--calibration", "set"), ("rendered", "own", MAKE), make=rendered),
    Case(
        "another-size",
        (*OWN, "--calibration", "set"),
        ("height 64", "32", "calibrate IMAGES --input-size 32x32 --output FILE"),
        make=larger,
    ),
    Case(
        "bundled-set-of-another-size", (*INT8, "--input-size", "32"), ("224", "calibrate rendered --input-size 32x32")
    ),
    Case("cut-short", (*OWN, "--calibration", "set"), ("set",), make=cut),
    Case("missing", (*OWN, "--calibration", "nowhere"), ("nowhere",), make=own),
]


@pytest.mark.parametrize("case", ids(CASES))
def test_calibration_sets_that_do_not_fit(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_a_set_whose_pixels_are_damaged(tmp_path: Path) -> None:
    """The damage is found when the pixels are read, in the process that converts."""
    check(
        Case(
            "flipped",
            (*OWN, "--calibration", "set"),
            ("set: image 2 does not match its digest in the manifest",),
            make=flipped,
        ),
        tmp_path,
    )


def not_offered() -> list[Case]:
    """Return for each target a precision that it lacks; the message lists those that it has."""
    cases = []
    for name, backend in BACKENDS.items():
        for target in backend.targets.values():
            precision = next(item for item in all_precisions() if item not in target.precisions)
            args = ("export", "--format", name, "--target", target.name, "--precision", precision, "--output", "out")
            told = (repr(precision), target.name, ", ".join(target.precisions))
            cases.append(Case(f"{name}-{target.name}-{precision}", args, told))
    return cases


@pytest.mark.parametrize("case", ids(not_offered()))
def test_precisions_that_a_target_does_not_offer(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_target_is_asked_for_one() -> None:
    assert len(not_offered()) == sum(len(item.targets) for item in BACKENDS.values()) >= 3
