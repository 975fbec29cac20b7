"""The accuracy of the bundled weights is what their cards state, over the same images; better fails too."""

import re
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from cloformer_deploy.data import Dataset, Preprocessing, RenderedImages, open_folder
from cloformer_deploy.export.pipeline import export
from cloformer_deploy.export.request import ExportRequest
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.validation import reference_outputs, validate
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


def agrees_with_card(name: str, images: Dataset) -> None:
    """Check the top-1 accuracy of PyTorch over all images of the card."""
    top1, n = stated(name)
    assert len(images) == n == 1000
    checkpoint = load_checkpoint(resolve_weights(name))
    model = build_model(checkpoint)
    preprocessing = Preprocessing.published(224, 224)
    right = 0
    for batch in images.batches(preprocessing, 20):
        assert batch.labels is not None
        normalized = preprocessing.normalize(batch.pixels)
        (logits,) = reference_outputs(model, normalized, TASKS["classification"].outputs).values()
        right += int((logits.argmax(axis=1) == np.asarray(batch.labels)).sum())
    assert right / n == pytest.approx(top1, abs=TOLERANCE)


def test_xxs_rendered() -> None:
    """It takes a minute or two, as the next one does: no fewer images tell what the card states."""
    assert 0.90 <= stated("xxs-rendered")[0] <= 0.97
    agrees_with_card("xxs-rendered", RenderedImages("test", range(1000)))


def test_xxs_imagenette(shared: Path) -> None:
    assert stated("xxs-imagenette")[0] >= 0.82
    # The folders are named by WordNet ids, in the order of the classes; the labels are English.
    agrees_with_card("xxs-imagenette", open_folder(shared / "imagenette" / "drift224", 10, None))


def test_int8_of_a_published_variant(tmp_path: Path) -> None:
    """Its size and its accuracy. It takes minutes: no smaller network has the published share of weights."""
    made = export(ExportRequest(("onnx",), ("int8",), weights="xxs-rendered", output=tmp_path / "bundle"), Silent())
    (artifact,) = made.bundle.manifest.artifacts
    # About a third of the size, also with the published number of classes, though the head stays float.
    model = cast(CloFormer, build_model(load_checkpoint(resolve_weights("xxs-rendered"))))
    more_classes = 4 * (1000 - model.num_classes) * (model.head.in_features + 1)
    float32_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert 0.25 < (artifact.bytes + more_classes) / (float32_bytes + more_classes) <= 0.37
    result = validate(made.bundle, None, 200, Silent())
    assert result.images == "rendered test 0-199"
    (found,) = (item.found for item in result.artifacts)
    assert found is not None
    assert found.agreement >= 0.97
    assert found.score == pytest.approx(result.reference.score, abs=INT8_TOLERANCE)
