"""TFLite files in native float16: forced here, where the processor would not choose it by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloformer_deploy.backends.tflite import half
from cloformer_deploy.backends.tflite.format import _allow_float16
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.progress import Silent
from tests.artifacts import artifact_of
from tests.backends.specs import spec
from tests.backends.tflite.flagged import FlaggedProduct
from tests.litert_convert import converted

pytestmark = pytest.mark.integration


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def entries(path: Path) -> dict[str, bytes]:
    """Read the metadata of a file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    return {item.name.decode(): bytes(model.buffers[item.buffer].data) for item in model.metadata}


def test_fp16_files_may_be_computed_in_float16_and_others_not(tiny_bundle: Bundle, image_bundle: Bundle) -> None:
    for bundle, precision in ((tiny_bundle, "fp16"), (image_bundle, "fp16"), (tiny_bundle, "fp32")):
        stored = entries(bundle.path(artifact_of(bundle, "tflite", precision)))
        assert stored.get(half.ENTRY) == (half.ALLOWED if precision == "fp16" else None)


def test_float16_is_near_float32_and_not_the_same(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.path(artifact_of(tiny_bundle, "tflite", "fp16"))
    images = np.random.default_rng(1).standard_normal((1, 224, 224, 3)).astype(np.float32)
    found = half.sqnr_db(path, images)
    assert found is not None
    assert 60 < found < 90


def test_a_file_that_xnnpack_refuses_in_float16_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "flagged.tflite"
    path.write_bytes(converted(FlaggedProduct(), torch.ones(1, 32, 32, 3), tmp_path))
    before, told = path.read_bytes(), Told()
    _allow_float16(path, spec("tflite", FlaggedProduct(), Preprocessing.published(32, 32)), told)
    why = "XNNPACK cannot compute it in float16, so every processor computes it in float32"
    assert told.warnings == [f"flagged.tflite: {why}"]
    assert path.read_bytes() == before
