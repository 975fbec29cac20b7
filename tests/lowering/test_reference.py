"""Lowered for any target, the model is still the published one, and says the same of photographs."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from cloformer_deploy.backends.registry import BACKENDS, lower, target_of
from cloformer_deploy.data import Preprocessing, open_folder
from cloformer_deploy.networks.cloformer import create_model
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights

MAX_ABS_DIFF = 1e-4
PHOTOGRAPHS = 20
TARGETS = [(name, target) for name, item in BACKENDS.items() for target in item.targets]

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("format_name", "target"), TARGETS)
@pytest.mark.parametrize(
    "case", ["xxs_seed0_2x3x224x224", "xxs_seed1_1x3x256x192", "xs_seed2_1x3x224x224", "s_seed3_1x3x224x224"]
)
def test_golden_logits(
    case: str,
    format_name: str,
    target: str,
    shared: Path,
    golden_fill: ModuleType,
    golden_state_dict: Callable[[str], dict[str, Tensor]],
) -> None:
    variant, seed, shape = case.split("_")
    batch, _, height, width = (int(side) for side in shape.split("x"))
    model = create_model(variant).eval()
    model.load_state_dict(golden_state_dict(variant))
    image = torch.from_numpy(golden_fill.image(int(seed.removeprefix("seed")), batch, height, width))
    with torch.inference_mode():
        logits = lower(model, format_name, target)(image).numpy()
    expected = np.load(shared / "golden" / f"{case}.npz")["logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=MAX_ABS_DIFF)


def test_photographs(shared: Path) -> None:
    checkpoint = load_checkpoint(resolve_weights("xxs-imagenette"))
    model = build_model(checkpoint)
    lowered = {}
    for name, target in TARGETS:
        found = target_of(name, target)
        for integer, rewrites in ((False, found.rewrites), (True, found.integer_rewrites)):
            if rewrites not in lowered:  # several targets want the same
                lowered[rewrites] = lower(model, name, target, integer=integer)
    assert len(lowered) >= 6
    preprocessing = Preprocessing.published(224, 224)
    images = open_folder(shared / "imagenette" / "drift224", checkpoint.num_classes, None).limited(PHOTOGRAPHS)
    seen = 0
    with torch.inference_mode():
        for batch in images.batches(preprocessing, 20):
            inputs = torch.from_numpy(preprocessing.normalize(batch.pixels))
            expected = model(inputs)
            for key, candidate in lowered.items():
                logits = candidate(inputs)
                torch.testing.assert_close(logits, expected, rtol=0, atol=MAX_ABS_DIFF, msg=str(key))
                assert torch.equal(logits.argmax(1), expected.argmax(1)), key
            seen += len(inputs)
    assert seen == PHOTOGRAPHS
