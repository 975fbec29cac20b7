"""The preprocessing record: the published values, their limits, and normalization."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import RequestError
from tests.data.image_files import SMALL

SQUARE = Preprocessing.published(64, 64)


@pytest.mark.parametrize(
    ("height", "width", "named", "nearest"),
    [
        (225, 224, "height 225", "224"),
        (224, 250, "width 250", "256"),
        (0, 224, "height 0", "32"),
        (-224, 224, "height -224", "32"),
        (224, 2049, "width 2049", "2048"),
        (224, 2080, "width 2080", "2048"),
        (224, 10**30, "width 1000", "2048"),
        (31, 32, "height 31", "32"),
    ],
)
def test_an_impossible_input_size_names_the_nearest(height: int, width: int, named: str, nearest: str) -> None:
    with pytest.raises(RequestError) as caught:
        Preprocessing.published(height, width)
    assert named in caught.value.message
    assert caught.value.hint == f"the nearest valid {named.split()[0]} is {nearest}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("side", [32, 224, 2048])
def test_the_limits_of_the_input_size_work(side: int) -> None:
    assert Preprocessing.published(side, side).height == side


def test_the_published_numbers() -> None:
    assert Preprocessing.published(224, 224).model_dump() == {
        "height": 224,
        "width": 224,
        "color": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "resize": {
            "cover": (256, 256),
            "interpolation": "bicubic",
            "crop": "center",
            "skipped_at_exact_size": True,
        },
    }


WRONG: dict[str, dict[str, Any]] = {
    "mean not a number": {"mean": (0.5, math.nan, 0.5)},
    "mean infinite": {"mean": (math.inf, 0.5, 0.5)},
    "std zero": {"std": (0.2, 0.0, 0.2)},
    "std negative": {"std": (0.2, 0.2, -0.1)},
    "std not a number": {"std": (math.nan, 0.2, 0.2)},
    "two means": {"mean": (0.5, 0.5)},
    "extra field": {"gamma": 2.2},
    "extra field in resize": {"resize": {"cover": (256, 256), "antialias": True}},
    "another color order": {"color": "BGR"},
    "another interpolation": {"resize": {"cover": (256, 256), "interpolation": "nearest"}},
    "cover smaller than the input": {"resize": {"cover": (256, 223)}},
    "cover absurdly large": {"resize": {"cover": (256, 10**400)}},
    "height no multiple of 32": {"height": 100},
    "width too large": {"width": 4096},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_unusable_preprocessing_is_refused(change: dict[str, Any]) -> None:
    usable = Preprocessing.published(224, 224).model_dump()
    Preprocessing.model_validate(usable)
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(usable | change)


def test_preprocessing_survives_json_and_cannot_be_changed() -> None:
    assert Preprocessing.model_validate_json(SMALL.model_dump_json()) == SMALL
    with pytest.raises(ValidationError):
        SMALL.height = 64


def test_normalize_is_the_formula_for_every_pixel_value() -> None:
    unusual = SQUARE.model_copy(update={"mean": (0.1, 0.5, 0.9), "std": (0.01, 0.5, 3.0)})
    values = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (2, 3, 16, 16))
    for preprocessing in (SMALL, unusual):
        found = preprocessing.normalize(values)
        assert found.dtype == np.float32
        assert found.shape == (2, 3, 16, 16)
        for channel in range(3):
            exact = (np.arange(256) / 255 - preprocessing.mean[channel]) / preprocessing.std[channel]
            # There are three roundings of values up to 1, and their errors are divided by std.
            tolerance = 2**-23 / preprocessing.std[channel]
            assert np.abs(found[:, channel].reshape(2, 256) - exact).max() <= tolerance
