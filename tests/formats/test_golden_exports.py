"""Exports of the golden weights give the published reference's logits, in every format."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from torch import Tensor

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.pipeline import Export, ExportRequest
from cloformer_deploy.runtimes import runtime_for
from cloformer_deploy.validation import Drift

pytestmark = pytest.mark.integration

FORMATS = ("onnx", "coreml", "tflite")
FP32_MAX_ABS_DIFF = 1e-4
FP16_SQNR_DB = (50.0, 90.0)
"""float16 that is better than its 11 bits allow has not been converted."""


def check(bundle: Bundle, images: np.ndarray, expected: np.ndarray) -> None:
    for artifact in bundle.manifest.artifacts:
        found = runtime_for(artifact.format).open(bundle.path(artifact)).run(images)
        drift = Drift()
        drift.update(expected, found, None)
        if artifact.precision == "fp32":
            assert drift.max_abs_diff <= FP32_MAX_ABS_DIFF, artifact.path
        else:
            assert FP16_SQNR_DB[0] <= drift.sqnr_db <= FP16_SQNR_DB[1], artifact.path
    assert {artifact.format for artifact in bundle.manifest.artifacts} == set(FORMATS)


@pytest.mark.parametrize(
    ("case", "precisions"),
    [
        ("xxs_seed0_2x3x224x224", ("fp32", "fp16")),
        ("xxs_seed1_1x3x256x192", ("fp32",)),
        ("xs_seed2_1x3x224x224", ("fp32", "fp16")),
        ("s_seed3_1x3x224x224", ("fp32", "fp16")),
    ],
)
def test_golden_logits(
    case: str,
    precisions: tuple[str, ...],
    shared: Path,
    golden_fill: ModuleType,
    golden_state_dict: Callable[[str], dict[str, Tensor]],
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    variant, seed, shape = case.split("_")
    batch, _, height, width = (int(side) for side in shape.split("x"))
    request = ExportRequest(FORMATS, precisions, height=height, width=width, batch=batch)
    made = export_weights(golden_state_dict(variant), request)
    images = golden_fill.image(int(seed.removeprefix("seed")), batch, height, width)
    check(made.bundle, images, np.load(shared / "golden" / f"{case}.npz")["logits"])


@pytest.mark.parametrize("variant", ["global", "local"])
def test_the_ablations_export_too(
    variant: str,
    small_weights: Callable[[str], dict[str, Tensor]],
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    """Their files were run back against PyTorch by the export itself; one line of numbers makes sure it looked."""
    made = export_weights(small_weights(variant), ExportRequest(FORMATS, height=64, width=96))
    assert made.bundle.manifest.variant == variant
    assert len(made.checks) == len(FORMATS)
    assert all(0 < item.max_abs_diff <= FP32_MAX_ABS_DIFF for item in made.checks.values())
