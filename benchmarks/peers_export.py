"""Write the peers as ONNX files, in an environment of their own, which has timm: `make peers` runs it.

    python benchmarks/peers_export.py FOLDER [--only NAME ...]

Those of `peers_standing.NEAREST` are also written as `torch.export` programs, which this tool then deploys as it does
CloFormer.

Random weights: the time of floats does not depend on them, as long as no number is subnormal. So batch normalizations
get the statistics of noise, which keep what is computed near 1.
"""

import argparse
import csv
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.edgevit import edgevit_xxs
from benchmarks.peers_standing import NEAREST

for name in ("nms", "qnms"):  # builds of torchvision for CUDA lack them beside a torch without; no peer needs either
    with suppress(RuntimeError):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402 - loads torchvision
from timm.utils.model import reparameterize_model  # noqa: E402
from torchvision.models import shufflenet_v2_x2_0  # noqa: E402

PEERS = Path(__file__).with_name("peers.csv")
PACKAGES = ("timm", "torch", "torchvision", "onnxscript")
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def peers() -> list[tuple[str, int]]:
    """Each graph once, by timm's name and pixels a side: checkpoints share them."""
    with PEERS.open(newline="") as file:
        return list(dict.fromkeys((row["checkpoint"].split(".")[0], int(row["side"])) for row in csv.DictReader(file)))


def deployed(name: str, side: int) -> nn.Module:
    """A model as one deploys it: branches merged, batch normalizations folded where timm can, two heads made one."""
    torch.manual_seed(0)
    original: nn.Module
    if name == "edgevit_xxs":
        original = edgevit_xxs(1000)
    elif name == "shufflenet_v2_x2_0":
        original = shufflenet_v2_x2_0()
    else:
        original = timm.create_model(name, pretrained=False, num_classes=1000)
    norms = [module for module in original.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        original.train()(torch.randn(4, 3, side, side))
    model: nn.Module = reparameterize_model(original.eval())
    head, distilled = getattr(model, "head", None), getattr(model, "head_dist", None)
    if isinstance(head, nn.Linear) and isinstance(distilled, nn.Linear):  # their outputs are averaged
        with torch.no_grad():
            head.weight.add_(distilled.weight).div_(2)
            head.bias.add_(distilled.bias).div_(2)
        model.head_dist = head
    return model


def logits(model: nn.Module, image: Tensor) -> Tensor:
    """The logits of an image.

    Raises:
        RuntimeError: a layer's output is not finite or has subnormal numbers, which take longer.
    """

    def check(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not next(module.children(), None):
            size = output.abs()
            if not output.isfinite().all() or ((size > 0) & (size < SMALLEST_NORMAL)).any():
                raise RuntimeError(f"{type(module).__name__} computes numbers that are not finite or subnormal")

    hooks = [module.register_forward_hook(check) for module in model.modules()]
    with torch.inference_mode():
        found: Tensor = model(image)
    for hook in hooks:
        hook.remove()
    return found


def export(name: str, side: int, folder: Path) -> None:
    """Write a model with the default options of `torch.onnx.export`, and its logits of the image that times it."""
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32))
    model = deployed(name, side)
    np.save(folder / f"{name}-{side}.npy", logits(model, image).numpy())
    path = folder / f"{name}-{side}.onnx"
    torch.onnx.export(model, (image,), path, input_names=["image"], external_data=False, verbose=False)
    if name in NEAREST and side == min(pixels for peer, pixels in peers() if peer == name):
        batch = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(model, (image.repeat(2, 1, 1, 1),), dynamic_shapes=batch)
        torch.export.save(program.run_decompositions({}), path.with_suffix(".pt2"))


def main() -> None:
    """Export all, or some, and say with what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="timm's names; all of peers.csv if left out")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, side in peers():
        if arguments.only is None or name in arguments.only:
            print(name, side, flush=True)
            export(name, side, arguments.folder)
    versions = {package: version(package) for package in PACKAGES}
    (arguments.folder / "versions.json").write_text(json.dumps(versions))


if __name__ == "__main__":
    main()
