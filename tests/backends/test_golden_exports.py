"""Exports of the golden weights give the published reference's logits, in every format."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.inspection import inspect
from cloformer_deploy.backends.registry import backend_of, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import probe_images
from cloformer_deploy.exporting.pipeline import Export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.networks.cloformer import CUSTOM, configured
from cloformer_deploy.validation.bundle_work import reference_model
from tests.tasks.comparing import compared
from tests.tiny import BLOCKS as TINY_BLOCKS
from tests.tiny import TINY, as_trained

pytestmark = pytest.mark.integration

FP32_MAX_ABS_DIFF = 1e-4

BLOCKS = 12
PARAMETERS_XXS = 4_159_657
"""Parameters of the lowered xxs: those published, less the folded ones and the normalization."""
GIGA_MACS_XXS = 0.66
TRANSPOSES = {"onnx": 12, "coreml": 12, "tflite": 44, "coreai": 12}
"""Transposes in 12 blocks: of the keys; in TFLite, where images need none, of the heads of queries, keys and values."""


def check(bundle: Bundle, images: np.ndarray, expected: np.ndarray) -> None:
    for artifact in bundle.manifest.artifacts:
        found = runtime_for(artifact.format).open(bundle.path(artifact)).run({INPUT_NAME: images})
        drift = compared(expected, found["logits"])
        assert drift.max_abs_diff is not None
        assert drift.max_abs_diff <= FP32_MAX_ABS_DIFF, artifact.path
        check_graph(bundle, artifact)


def check_graph(bundle: Bundle, artifact: Artifact) -> None:
    """Check the purposes of the lowering: one partition, few axes, few transposes, nothing unsafe in float16."""
    found = inspect(bundle.path(artifact))
    assert found.problem is None
    shown = {section.name: section for section in found.sections}
    graph = found.description.graph
    assert graph.max_rank == 4, artifact.path
    assert graph.transposes == TRANSPOSES[artifact.format], artifact.path
    if artifact.input.batch == 2:  # the case of xxs
        assert graph.macs is not None
        assert round(graph.macs / 2e9, 2) == GIGA_MACS_XXS, artifact.path
        assert abs(graph.parameters - PARAMETERS_XXS) < 1000, artifact.path
    if artifact.format == "tflite":
        assert shown["xnnpack"].facts == {"partitions": 1, "undelegated": {}}, artifact.path
    if artifact.format == "coreml":
        assert shown["float16"].findings == (), artifact.path
        assert shown["float16"].facts["longest_sum"] <= 4096
        assert shown["float16"].facts["images"] >= 1


@pytest.mark.parametrize(
    ("case", "format_name"),
    [
        ("xxs_seed0_2x3x224x224", "tflite"),
        ("xs_seed2_1x3x224x224", "coreml"),
        ("s_seed3_1x3x224x224", "onnx"),
        ("xxs_seed1_1x3x256x192", "coreai"),
    ],
)
def test_golden_logits(
    case: str,
    format_name: str,
    shared: Path,
    golden_fill: ModuleType,
    golden_state_dict: Callable[[str], dict[str, Tensor]],
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    variant, seed, shape = case.split("_")
    batch, _, height, width = (int(side) for side in shape.split("x"))
    request = ExportRequest((format_name,), height=height, width=width, batch=batch)
    made = export_weights(golden_state_dict(variant), request)
    images = golden_fill.image(int(seed.removeprefix("seed")), batch, height, width)
    check(made.bundle, images, np.load(shared / "golden" / f"{case}.npz")["logits"])


@pytest.mark.parametrize(("format_name", "target"), [("onnx", "hexagon"), ("tflite", "ethos-u")])
def test_logits_of_files_for_other_targets(
    format_name: str,
    target: str,
    golden_fill: ModuleType,
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    """Against PyTorch, whose logits are the golden ones on these targets too (tests/lowering/test_reference.py)."""
    model = as_trained(TINY, seed=0)
    made = export_weights(model.state_dict(), ExportRequest((format_name,), height=256, width=192, target=target))
    (artifact,) = made.bundle.manifest.artifacts
    assert artifact.target == target
    assert target in artifact.path
    image = golden_fill.image(1, 1, 256, 192)
    found = runtime_for(format_name).open(made.bundle.path(artifact)).run({INPUT_NAME: image})
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=FP32_MAX_ABS_DIFF)
    # No mean over more than two axes, which neither NPU's compiler takes, in any of its shapes.
    operators = backend_of(made.bundle.path(artifact)).describe(made.bundle.path(artifact)).operators
    assert operators.keys().isdisjoint({"InstanceNormalization", "GroupNormalization", "LayerNormalization"})
    assert operators.get("ReduceMean", operators.get("MEAN", 0)) >= 4 * 2 * TINY_BLOCKS


def test_networks_without_local_heads(one_logit_bundle: Bundle) -> None:
    """Like a published ablation."""
    assert one_logit_bundle.manifest.variant == CUSTOM
    assert one_logit_bundle.manifest.architecture["kernel_sizes"] == ((), (), (), ())
    artifacts = one_logit_bundle.manifest.artifacts
    assert {item.format for item in artifacts} == {"onnx", "coreml", "tflite"}
    image = one_logit_bundle.manifest.preprocessing.normalize(probe_images(1, one_logit_bundle.manifest.preprocessing))
    with torch.inference_mode():
        expected = reference_model(one_logit_bundle)(torch.from_numpy(image)).numpy()
    for artifact in artifacts:
        found = runtime_for(artifact.format).open(one_logit_bundle.path(artifact)).run({INPUT_NAME: image})
        np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=FP32_MAX_ABS_DIFF)


@pytest.mark.parametrize(
    ("format_name", "heads", "num_classes", "batch"),
    [
        ("coreml", ((2, 0), (2, 0), (3, 0), (4, 0)), 3, 1),
        ("coreai", ((2, 0), (2, 0), (3, 0), (4, 0)), 3, 2),
        ("coreai", ((2,), (2,), (3,), (4,)), 1, 1),
    ],
)
def test_networks_without_global_or_local_heads(
    format_name: str,
    heads: tuple[tuple[int, ...], ...],
    num_classes: int,
    batch: int,
    export_weights: Callable[[dict[str, Tensor], ExportRequest], Export],
) -> None:
    """Like the published ablations. The export itself ran the file back against PyTorch."""
    kernels = tuple((3,) * (len(stage) - 1) for stage in heads)
    small = configured((32, 32, 48, 64), heads, kernel_sizes=kernels, depths=(1, 1, 1, 1), num_classes=num_classes)
    request = ExportRequest((format_name,), height=64, width=96, batch=batch)
    made = export_weights(as_trained(small, seed=0).state_dict(), request)
    assert made.bundle.manifest.variant == CUSTOM
    (check,) = made.checks.values()
    assert 0 < check.max_abs_diff <= FP32_MAX_ABS_DIFF
