"""For every family of heads, faults planted in the head of a real file fail `validate` and `gate`, in every format.

The files are those of `tiny_bundle`, and of `one_logit_bundle`: no other file shows that one logit can fail.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.backends.registry import DEFAULT_FORMATS, lower
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.data.rendered import render
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import validate
from cloformer_deploy.validation.bundle_work import reference_model
from tests.artifacts import artifact_of

pytestmark = pytest.mark.integration

IMAGES = 4
Floats = NDArray[np.float32]
Fault = Callable[[Floats], Floats]
"""Changes the rows of a head: of its weights (classes, features) or of its bias (classes,)."""


@dataclass(frozen=True)
class Head:
    """A head's weights and bias as the files of a format have them: after lowering."""

    weight: Floats
    bias: Floats


FAULTS: dict[str, Callable[[Head], Head]] = {
    "sign": lambda head: Head(-head.weight, -head.bias),
    "zero": lambda head: Head(np.zeros_like(head.weight), np.zeros_like(head.bias)),
    "offset": lambda head: Head(head.weight, head.bias + np.float32(5)),
    "order": lambda head: Head(np.roll(head.weight, 1, axis=0), np.roll(head.bias, 1)),
}


def spoiled(bundle: Bundle, format_name: str, scores: str, fault: str, folder: Path) -> Bundle:
    """Return a bundle of one float32 artifact whose head has a fault; `none` leaves it as it is."""
    artifact = artifact_of(bundle, format_name, "fp32")
    folder.mkdir()
    path = folder / artifact.path
    (shutil.copytree if bundle.path(artifact).is_dir() else shutil.copy)(bundle.path(artifact), path)
    shutil.copy(bundle.weights_path, folder)
    if fault != "none":
        lowered = cast(CloFormer, lower(reference_model(bundle), format_name, artifact.target))
        head = Head(lowered.head.weight.detach().numpy(), lowered.head.bias.detach().numpy())
        other = FAULTS[fault](head)
        replace(path, head.weight, other.weight)
        replace(path, head.bias, other.bias)
    listed = artifact.model_copy(update={"sha256": digest(path)})
    manifest = bundle.manifest.model_copy(update={"artifacts": (listed,), "scores": scores, "calibrations": ()})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Bundle.open(folder)


def replace(path: Path, old: Floats, new: Floats) -> None:
    """Replace an array, or its transpose, where a file holds its bytes."""
    replaced = 0
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        content = file.read_bytes()
        for before, after in ((old, new), (old.T, new.T)):
            if content.count(before.tobytes()) == 1:
                file.write_bytes(content.replace(before.tobytes(), after.tobytes()))
                replaced += 1
                break
    assert replaced == 1


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without labels: at 224 px the small network, which was trained at 64, is right by chance alone."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(IMAGES):
        Image.fromarray(render("test", index)).save(folder / f"{index}.png")
    return folder


CASES = [
    (family, format_name, fault)
    for family in ("softmax", "sigmoid", "one logit")
    for format_name in DEFAULT_FORMATS
    for fault in ("none", *FAULTS)
    if (family, fault) != ("one logit", "order")
]


@pytest.mark.parametrize(("family", "format_name", "fault"), CASES)
def test_faults_of_heads(
    family: str,
    format_name: str,
    fault: str,
    tiny_bundle: Bundle,
    one_logit_bundle: Bundle,
    images: Path,
    tmp_path: Path,
) -> None:
    bundle = one_logit_bundle if family == "one logit" else tiny_bundle
    scores = "sigmoid" if family == "sigmoid" else "softmax"
    judged = spoiled(bundle, format_name, scores, fault, tmp_path / "bundle")
    (artifact,) = validate(judged, images, None, Silent()).artifacts
    (cell,) = gate(judged, images, None, DriftConfig(), None, None, {}, Silent()).cells
    if fault == "none":
        assert (artifact.status, cell.status) == ("passed", "passed")
        return
    assert (artifact.status, cell.status) == ("failed", "failed")
    # The outputs alone, not only the comparison of stored weights, which quantized files do not have.
    failed = {check.name for check in cell.checks if check.outcome == "failed"}
    assert failed & {"agreement", "sqnr_db"}
    assert any(text.startswith(("SQNR", "the same")) for text in artifact.failures)
