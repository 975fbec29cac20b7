"""Loading weights of every format, wrapper, dtype, layout and variant, and building the model."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from cloformer_deploy.networks.cloformer import VARIANTS, create_model
from cloformer_deploy.weights.checkpoints import build_model
from tests.weights.weights_files import CONTAINERS, COUNTER, Weights, assert_same, load, safe, torch_zip

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, xxs_weights: Weights, tmp_path: Path) -> None:
    checkpoint = load(tmp_path, CONTAINERS[container](xxs_weights))
    assert (checkpoint.name, checkpoint.variant, checkpoint.num_classes) == ("weights", "xxs", 10)
    assert checkpoint.labels is None
    assert len(checkpoint.sha256) == 64
    assert_same(checkpoint.state_dict, xxs_weights)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.module.", "net.backbone."])
@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema", "state_dict", "model", "net", "ema", "module"])
def test_wrappers_and_prefix(wrapper: str, prefix: str, xxs_weights: Weights, tmp_path: Path) -> None:
    state = OrderedDict((prefix + name, tensor) for name, tensor in xxs_weights.items())
    content = {"epoch": 3, "arch": "cloformer", "optimizer": {"state": {0: {"step": 1.0}}}, wrapper: state}
    assert_same(load(tmp_path, torch_zip(content)).state_dict, xxs_weights)


def test_averaged_weights_are_preferred(xxs_weights: Weights, tmp_path: Path) -> None:
    plain = {**xxs_weights, "head.bias": xxs_weights["head.bias"] + 1}
    content = {"model": plain, "state_dict": plain, "state_dict_ema": xxs_weights}
    assert_same(load(tmp_path, torch_zip(content)).state_dict, xxs_weights)
    assert_same(load(tmp_path, torch_zip({**content, "state_dict_ema": None})).state_dict, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("container", ["zip", "safetensors"])
def test_dtypes_become_float32(dtype: torch.dtype, container: str, xxs_weights: Weights, tmp_path: Path) -> None:
    converted = {name: tensor.to(dtype) for name, tensor in xxs_weights.items()}
    checkpoint = load(tmp_path, CONTAINERS[container](converted))
    expected = {name: converted[name].to(tensor.dtype) for name, tensor in xxs_weights.items()}
    assert_same(checkpoint.state_dict, expected)


def test_layouts_become_contiguous(xxs_weights: Weights, tmp_path: Path) -> None:
    turned = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in xxs_weights.items()
    }
    checkpoint = load(tmp_path, torch_zip(turned))
    assert_same(checkpoint.state_dict, xxs_weights)
    assert all(tensor.is_contiguous() for tensor in checkpoint.state_dict.values())


def test_counters_may_be_absent(xxs_weights: Weights, tmp_path: Path) -> None:
    without = {name: tensor for name, tensor in xxs_weights.items() if not name.endswith("num_batches_tracked")}
    assert_same(load(tmp_path, torch_zip(without)).state_dict, xxs_weights)


def test_counters_are_kept(xxs_weights: Weights, tmp_path: Path) -> None:
    counted = {**xxs_weights, COUNTER: torch.tensor(2**40 + 1)}
    assert_same(load(tmp_path, torch_zip(counted)).state_dict, counted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_told(variant: str, tmp_path: Path) -> None:
    weights = create_model(variant, 3).state_dict()
    assert load(tmp_path, safe(weights)).variant == variant
    checkpoint = load(tmp_path, safe(weights), variant)
    assert (checkpoint.variant, checkpoint.num_classes) == (variant, 3)


def test_files_without_checksums_are_read(xxs_weights: Weights, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        data = torch_zip(xxs_weights)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(load(tmp_path, data).state_dict, xxs_weights)


def test_build_model(xxs_weights: Weights, tmp_path: Path) -> None:
    checkpoint = load(tmp_path, safe(xxs_weights))
    generator = torch.get_rng_state()
    model = build_model(checkpoint)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_same(model.state_dict(), xxs_weights)
    with torch.no_grad():
        model.get_parameter("head.bias").zero_()
    assert_same(checkpoint.state_dict, xxs_weights)
