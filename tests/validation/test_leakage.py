"""Test that images of a calibration set are found by their pixels and refused."""

import numpy as np
import pytest

from cloformer_deploy.data import image_digest
from cloformer_deploy.errors import DataError
from cloformer_deploy.validation import check_no_leakage

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), np.uint8)


def digests(*indices: int) -> list[str]:
    return [image_digest(IMAGES[index]) for index in indices]


def test_shared_images_are_counted_over_all() -> None:
    sets = {"first": digests(0), "second": digests(1, 3, 4)}
    with pytest.raises(DataError, match="2 of 4 images of pets are in the calibration set second") as caught:
        check_no_leakage(digests(1, 2, 2, 3), sets, "pets")
    assert caught.value.exit_code == 2


def test_other_images_pass() -> None:
    check_no_leakage(digests(0, 1), {"first": digests(2, 3, 4)}, "pets")
    check_no_leakage(digests(0, 1), {}, "pets")
