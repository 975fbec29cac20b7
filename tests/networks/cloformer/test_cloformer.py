"""The architecture against the published names, sizes and outputs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import cloformer_deploy.networks.cloformer as architecture
from cloformer_deploy.networks.cloformer import VARIANTS, CloAttention, create_model

pytestmark = pytest.mark.integration

TOLERANCE = 2e-5
PARAMETERS = {"xxs": 4_166_728, "xs": 7_172_216, "s": 12_345_576}
GIGA_MACS = {"xxs": 0.66, "xs": 1.22, "s": 2.17}
GOLDEN_CASES = ("xxs_seed0_2x3x224x224", "xxs_seed1_1x3x256x192", "xs_seed2_1x3x224x224", "s_seed3_1x3x224x224")


def golden_input(fill: ModuleType, case: str) -> Tensor:
    _, seed, shape = case.split("_")[-3:]
    batch, channels, height, width = (int(side) for side in shape.split("x"))
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = fill.image(
        int(seed.removeprefix("seed")), batch, height, width, channels
    )
    return torch.from_numpy(image)


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_logits_are_the_published_reference_s(
    case: str, shared: Path, golden_fill: ModuleType, golden_state_dict: Callable[..., dict[str, Tensor]]
) -> None:
    variant = case.split("_")[0]
    model = create_model(variant).eval()
    model.load_state_dict(golden_state_dict(variant))
    expected = np.load(shared / "golden" / f"{case}.npz")["logits"]
    with torch.inference_mode():
        found = model(golden_input(golden_fill, case)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_the_attention_alone_is_the_published_reference_s(shared: Path, golden_fill: ModuleType) -> None:
    case = "block_dim64_seed4_1x64x64x64"
    attention = CloAttention(64).eval()
    shapes = json.loads((shared / "golden" / "state_dict_block_dim64.json").read_text())
    attention.load_state_dict({n: torch.from_numpy(golden_fill.fill(n, tuple(s))) for n, s in shapes.items()})
    expected = np.load(shared / "golden" / f"{case}.npz")
    with torch.inference_mode():
        found = attention(golden_input(golden_fill, case)).numpy()
    np.testing.assert_allclose(found.mean(axis=(2, 3)), expected["mean"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found[:, :, :4, :4], expected["corner"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.abs(found).sum(), expected["out_abs_sum"], rtol=1e-6)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_names_and_shapes_are_the_published_ones_in_order(variant: str, shared: Path) -> None:
    expected = json.loads((shared / "golden" / f"state_dict_{variant}.json").read_text())
    with torch.device("meta"):
        found = {name: list(value.shape) for name, value in create_model(variant).state_dict().items()}
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_and_macs_are_the_specified_ones(variant: str) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = create_model(variant)
        model(torch.zeros(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[variant]
    assert counter.get_total_flops() / 2e9 == pytest.approx(GIGA_MACS[variant], abs=0.005)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_a_pyramid_and_logits(variant: str) -> None:
    with torch.device("meta"):
        model = create_model(variant, num_classes=7)
        image = torch.zeros(2, 3, 96, 64)
        assert model(image).shape == (2, 7)
        shapes = [tuple(feature.shape) for feature in model.features(image)]
    dims = VARIANTS[variant].embed_dims
    assert shapes == [(2, dim, 96 // stride, 64 // stride) for dim, stride in zip(dims, (4, 8, 16, 32), strict=True)]


def test_features_are_the_stream_before_the_down_sampling_feed_forward() -> None:
    torch.manual_seed(0)
    model = create_model("xxs", num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.features(image)
        for stage in range(3):
            block = model.get_submodule(f"layers.{stage}.blocks")[-1]  # type: ignore[index]
            following = block.downsample(features[stage]) + block.mlp(block.norm2(features[stage]))
            assert torch.equal(model.layers[stage + 1](following)[0], features[stage + 1])
        logits = model.head(model.norm(features[3]).mean(dim=(2, 3)))
        torch.testing.assert_close(logits, model(image), rtol=0, atol=1e-6)


def test_the_ablations_leave_a_branch_out() -> None:
    names = {variant: set(create_model(variant).state_dict()) for variant in ("global", "local", "xxs")}
    assert not any(".qkvs." in name for name in names["global"])
    assert not any(".global_" in name for name in names["local"])
    assert names["global"] < names["xxs"]
    assert names["local"] < names["xxs"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"group_split": [4, 3]}, "sum to num_heads 8"),
        ({"kernel_sizes": [5, 7]}, "one entry fewer"),
        ({"dim": 60}, "multiple of num_heads 8"),
    ],
)
def test_contradicting_arguments_of_the_attention_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CloAttention(**{"dim": 64, **arguments})


def test_sizes_that_do_not_fit_are_refused() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="height 200 and width 224 must be multiples of 32"):
            create_model("xxs")(torch.zeros(1, 3, 200, 224))
        with pytest.raises(ValueError, match="multiples of window_size 4"):
            CloAttention(64)(torch.zeros(1, 64, 8, 10))
    with pytest.raises(ValueError, match="unknown variant 'xl'; choose one of xxs, xs, s, global, local"):
        create_model("xl")


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    attention = CloAttention(64, attn_drop=0.5, proj_drop=0.5)
    image = torch.randn(1, 64, 8, 8)
    assert not torch.equal(attention(image), attention(image))
    attention.eval()
    assert torch.equal(attention(image), attention(image))


def test_the_variants_are_readable_without_torch() -> None:
    code = "import sys; from cloformer_deploy.networks.cloformer import VARIANTS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'create_modell'"):
        _ = architecture.create_modell
    assert all(hasattr(architecture, name) for name in architecture.__all__)
