"""Run by the Python of an environment that has Ultralytics: export a detector with Clo attention, as it is or prepared.

    python -m tests.backends.coreml.ultralytics_export FOLDER written|prepared

Prints the path of the package, or `failed:` and Ultralytics' own error.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloformer_deploy import prepare
from tests.own.copies import PluginAttention

SIDE = 64
LAYERS = {
    "nc": 4,
    "scales": {"n": [0.33, 0.25, 1024]},
    "backbone": [
        *([-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [128, 3, 2]], [-1, 1, "C2f", [128, True]]),
        *([-1, 1, "Conv", [256, 3, 2]], [-1, 1, "Clo", [64]], [-1, 1, "Conv", [512, 3, 2]], [-1, 1, "SPPF", [512, 5]]),
    ],
    "head": [
        *([-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 4], 1, "Concat", [1]], [-1, 1, "C2f", [256]]),
        [[9, 6], 1, "Detect", ["nc"]],
    ],
}
"""A YOLOv8 of one size whose third stage attends; `Clo` is the module of somebody's own."""


class Clo(PluginAttention):
    """The layer as people add it to Ultralytics' modules."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4, (3, 1), (3,), 4)


def main(folder: Path, form: str) -> None:
    os.environ.update(YOLO_OFFLINE="true", YOLO_CONFIG_DIR=str(folder))
    os.chdir(folder)
    import yaml
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    tasks.Clo = Clo
    Path("clo.yaml").write_text(yaml.safe_dump(LAYERS))
    torch.manual_seed(0)
    detector: Any = YOLO("clo.yaml", task="detect")
    model: nn.Module = detector.model
    if form == "prepared":
        report = prepare(model, "coreml", torch.rand(1, 3, SIDE, SIDE))
        sys.stderr.write(f"{report}\n")
    try:
        answer = str(detector.export(format="coreml", imgsz=SIDE, nms=False))
    except Exception as error:
        answer = f"failed: {type(error).__name__}: {error}"
    sys.stdout.write(f"\n{answer}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
