"""TFLite files in native float16: forced here, where the processor would not choose it by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloformer_deploy.backends.tflite import half
from cloformer_deploy.bundle import Bundle
from tests.artifacts import artifact_of
from tests.backends.tflite.flagged import FlaggedProduct
from tests.litert_convert import converted

pytestmark = pytest.mark.integration


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


def test_no_file_of_the_cloformer_is_one_that_xnnpack_refuses(tmp_path: Path) -> None:
    """The form of the attention that is exported for a single head avoids this product."""
    path = tmp_path / "flagged.tflite"
    example = torch.ones(1, 1, 8, 19)
    path.write_bytes(converted(FlaggedProduct(), example, tmp_path))
    assert half.sqnr_db(path, example.numpy()) is None
