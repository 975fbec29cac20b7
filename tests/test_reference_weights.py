"""The accuracy that the bundled weights' cards state, in PyTorch and in every runtime. Better than stated fails too."""

import re
from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.export.pipeline import ExportRequest, export
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import Validation, validate
from cloformer_deploy.weights.zoo import bundled_checkpoints

TOLERANCE = 0.002
"""Two images of 1,000, near the boundary between two classes, may fall either way on another processor."""

pytestmark = pytest.mark.integration


def stated(name: str) -> tuple[float, int]:
    """Top-1 in a card's table: the share, and the number of images."""
    card = bundled_checkpoints()[name].with_suffix(".md").read_text()
    found = re.search(r"top-1 at 224 px \| \*\*[0-9.]+ %\*\* \(([0-9,]+) of ([0-9,]+);", card)
    assert found is not None
    right, n = (int(number.replace(",", "")) for number in found.groups())
    return right / n, n


def exported(name: str, formats: tuple[str, ...], folder: Path) -> Bundle:
    return export(ExportRequest(formats, weights=name, output=folder), Silent()).bundle


def holds(result: Validation, name: str) -> None:
    top1, n = stated(name)
    assert result.reference.n == n
    assert result.reference.top1 == pytest.approx(top1, abs=TOLERANCE)
    for artifact in result.artifacts:
        assert artifact.status == "passed"
        assert artifact.top1 == pytest.approx(top1, abs=TOLERANCE)
        assert artifact.top1_drop_ci95_pp is not None
        low, high = artifact.top1_drop_ci95_pp
        assert low <= 0 <= high


def test_xxs_rendered_in_every_runtime(tmp_path: Path) -> None:
    result = validate(exported("xxs-rendered", ("onnx", "coreml", "tflite"), tmp_path / "bundle"), None, None, Silent())
    assert result.images == "rendered test 0-999"
    assert 0.90 <= stated("xxs-rendered")[0] <= 0.97
    assert len({artifact.runtime for artifact in result.artifacts}) == 3
    holds(result, "xxs-rendered")


def test_xxs_imagenette(shared: Path, tmp_path: Path) -> None:
    bundle = exported("xxs-imagenette", ("onnx",), tmp_path / "bundle")
    assert stated("xxs-imagenette")[0] >= 0.82
    holds(validate(bundle, shared / "imagenette" / "drift224", None, Silent()), "xxs-imagenette")
