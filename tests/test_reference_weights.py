"""The accuracy of the bundled weights in PyTorch and in every runtime, over 200 images; better than recorded fails too.

The cards state it over 1,000 images. Here, PyTorch's count over the 200 is recorded, and the card's figure has to lie
within what 200 of 1,000 images can tell.
"""

import math
import re
from pathlib import Path

import pytest

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.export.pipeline import export
from cloformer_deploy.export.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import Validation, validate
from cloformer_deploy.weights.zoo import bundled_checkpoints

N = 200
RIGHT = {"xxs-rendered": 183, "xxs-imagenette": 170}
"""Images of the 200 whose label is PyTorch's first class, as recorded when the weights were added."""
TOLERANCE = 1 / N
"""One image of the 200, near the boundary between two classes, may fall either way on another processor."""

pytestmark = pytest.mark.integration


def stated(name: str) -> tuple[float, int]:
    """Return top-1 of a card's table, 0..1, and the number of images."""
    card = bundled_checkpoints()[name].with_suffix(".md").read_text()
    found = re.search(r"top-1 at 224 px \| \*\*[0-9.]+ %\*\* \(([0-9,]+) of ([0-9,]+);", card)
    assert found is not None
    right, n = (int(number.replace(",", "")) for number in found.groups())
    return right / n, n


def exported(name: str, formats: tuple[str, ...], folder: Path) -> Bundle:
    return export(ExportRequest(formats, weights=name, output=folder), Silent()).bundle


def holds(result: Validation, name: str) -> None:
    score = RIGHT[name] / N
    assert result.reference.n == N
    assert result.reference.score == pytest.approx(score, abs=TOLERANCE)
    for artifact in result.artifacts:
        assert artifact.status == "passed"
        assert artifact.found is not None
        assert artifact.found.score == pytest.approx(score, abs=TOLERANCE)
        assert artifact.found.drop_ci95_pp is not None
        low, high = artifact.found.drop_ci95_pp
        assert low <= 0 <= high


@pytest.mark.parametrize("name", RIGHT)
def test_the_card_and_the_200_images_agree(name: str) -> None:
    top1, n = stated(name)
    assert n == 1000
    # Standard error of a share of N drawn from n without replacement; 2.6 of them are a chance of one in a hundred.
    error = math.sqrt(top1 * (1 - top1) / N * (n - N) / (n - 1))
    assert abs(RIGHT[name] / N - top1) <= 2.6 * error


def test_xxs_rendered_in_every_runtime(tmp_path: Path) -> None:
    bundle = exported("xxs-rendered", ("onnx", "coreml", "tflite"), tmp_path / "bundle")
    result = validate(bundle, None, N, Silent())
    assert result.images == "rendered test 0-199"
    assert len({artifact.runtime for artifact in result.artifacts}) == 3
    holds(result, "xxs-rendered")


def test_xxs_imagenette(shared: Path, tmp_path: Path) -> None:
    bundle = exported("xxs-imagenette", ("onnx",), tmp_path / "bundle")
    holds(validate(bundle, shared / "imagenette" / "drift224", N, Silent()), "xxs-imagenette")
