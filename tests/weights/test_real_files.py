"""Files as training scripts and wrappers wrote them (../shared/cases/checkpoints) are read, and say what is assumed."""

import lzma
from pathlib import Path

import pytest
import torch
from torch import nn

from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.weights.checkpoints import Checkpoint, build_model, load_checkpoint

pytestmark = pytest.mark.integration

WINDOWS = [4, 4, 2, 1]
"""Windows that the configuration in `reference_train_windows.pth` says."""
ASSUMED = ("num_heads [4, 4, 8, 16]", "window_sizes [8, 4, 2, 1]")
FILES = {
    "compile.pth": ("xxs", "classification", 3, ASSUMED, "wrapper _orig_mod."),
    "custom_depths.pth": ("custom", "classification", 3, ASSUMED, ""),
    "encoder_decoder.pth": ("xxs", "features", 3, ASSUMED, "prefix encoder."),
    "head_dropout_linear.pth": ("xxs", "classification", 3, ASSUMED, ""),
    "in_chans_1.pth": ("custom", "classification", 1, ASSUMED, ""),
    "lightning.ckpt": ("xxs", "classification", 3, ASSUMED, "prefix model."),
    "numpy_scalars.pth": ("xxs", "classification", 3, ASSUMED, "at model"),
    "pathlib_args.pth": ("xxs", "classification", 3, ASSUMED, "at model"),
    "reference_train.pth": ("xxs", "classification", 3, (), "at model"),
    "reference_train_windows.pth": ("custom", "classification", 3, (), "at model"),
    "whole_module.pt": ("xxs", "classification", 3, (), "whole module"),
    "wrapper_ema.pth": ("xxs", "classification", 3, ASSUMED, "at ema, a moving average"),
}
"""Variant, task, channels, what is assumed, and a part of what is told."""


def loaded(shared: Path, name: str, folder: Path) -> Checkpoint:
    (folder / name).write_bytes(lzma.decompress((shared / "cases" / "checkpoints" / f"{name}.xz").read_bytes()))
    return load_checkpoint(folder / name)


def test_every_file_is_known(shared: Path) -> None:
    assert {path.stem for path in (shared / "cases" / "checkpoints").glob("*.xz")} == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_it_is_read(name: str, shared: Path, tmp_path: Path) -> None:
    found = loaded(shared, name, tmp_path)
    variant, task, channels, assumed, told = FILES[name]
    assert (found.variant, found.task, found.channels, found.assumed) == (variant, task, channels, assumed)
    assert told in "; ".join(found.notes)


def test_windows_of_the_file_s_configuration_are_obeyed(shared: Path, tmp_path: Path) -> None:
    found = loaded(shared, "reference_train_windows.pth", tmp_path)
    assert found.architecture["window_sizes"] == WINDOWS
    model = build_model(found)
    assert {module.kernel_size for module in model.modules() if isinstance(module, nn.AvgPool2d)} == {4, 2}
    published = build_model(load_checkpoint(tmp_path / "reference_train_windows.pth", None, VARIANTS["xxs"].as_json()))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.allclose(model(image), published(image), atol=1e-6)
