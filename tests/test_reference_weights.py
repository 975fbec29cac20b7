"""The accuracy of the bundled weights is what their cards state, over the same images; better fails too."""

import re
from pathlib import Path
from typing import cast

import pytest

from cloformer_deploy.export.pipeline import export
from cloformer_deploy.export.request import ExportRequest
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import Validation, validate
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import bundled_checkpoints, resolve_weights

TOLERANCE = 0.002
"""Two images of the 1,000, near the boundary between two classes, may fall either way on another processor."""
INT8_TOLERANCE = 0.01

pytestmark = pytest.mark.integration


def stated(name: str) -> tuple[float, int]:
    """Return top-1 of a card's table, 0..1, and the number of images."""
    card = bundled_checkpoints()[name].with_suffix(".md").read_text()
    found = re.search(r"top-1 at 224 px \| \*\*[0-9.]+ %\*\* \(([0-9,]+) of ([0-9,]+);", card)
    assert found is not None
    right, n = (int(number.replace(",", "")) for number in found.groups())
    return right / n, n


def holds(result: Validation, name: str, tolerance: float) -> None:
    top1, n = stated(name)
    assert result.reference.n == n == 1000
    assert result.reference.score == pytest.approx(top1, abs=TOLERANCE)
    (artifact,) = result.artifacts
    assert artifact.status == "passed"
    assert artifact.found is not None
    assert artifact.found.score == pytest.approx(top1, abs=tolerance)


def test_xxs_rendered(tmp_path: Path) -> None:
    """In PyTorch and, quantized, in ONNX Runtime. It takes minutes: no fewer images tell what the card states."""
    made = export(ExportRequest(("onnx",), ("int8",), weights="xxs-rendered", output=tmp_path / "bundle"), Silent())
    result = validate(made.bundle, None, 1000, Silent())
    assert result.images == "rendered test 0-999"
    (artifact,) = made.bundle.manifest.artifacts
    # About a third of the size, also with the published number of classes, though the head stays float.
    model = cast(CloFormer, build_model(load_checkpoint(resolve_weights("xxs-rendered"))))
    more_classes = 4 * (1000 - model.num_classes) * (model.head.in_features + 1)
    float32_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert artifact.bytes + more_classes <= 0.37 * (float32_bytes + more_classes)
    assert 0.90 <= stated("xxs-rendered")[0] <= 0.97
    holds(result, "xxs-rendered", INT8_TOLERANCE)


def test_xxs_imagenette(shared: Path, tmp_path: Path) -> None:
    """In PyTorch and, as float32 that takes pixels, in ONNX Runtime."""
    assert stated("xxs-imagenette")[0] >= 0.82
    asked = ExportRequest(("onnx",), weights="xxs-imagenette", input_kind="image", output=tmp_path / "bundle")
    result = validate(export(asked, Silent()).bundle, shared / "imagenette" / "drift224", 1000, Silent())
    holds(result, "xxs-imagenette", TOLERANCE)
