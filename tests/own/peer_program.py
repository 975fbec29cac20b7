"""Run by the Python of an environment that has timm: save a MobileNetV4 as a `torch.export` program.

python -m tests.own.peer_program FILE
"""

import sys
from contextlib import suppress

import torch

from tests.own.networks import trained

NAME = "mobilenetv4_conv_small_050"
SIDE = 64


def main(path: str) -> None:
    for name in ("nms", "qnms"):  # builds of torchvision for CUDA lack them beside a torch without; timm needs neither
        with suppress(RuntimeError):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    torch.manual_seed(0)
    model = trained(timm.create_model(NAME, num_classes=10))
    program = torch.export.export(
        model, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, path)


if __name__ == "__main__":
    main(sys.argv[1])
