"""Every tensor that a Core ML package computes: the interpreter, observed."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloformer_deploy.backends.base import Feed, FileTensor, TensorReader, Tensors
from cloformer_deploy.system.files import naming
from cloformer_deploy.system.packages import require

if TYPE_CHECKING:
    from torch import Tensor


def open_tensors(path: Path) -> TensorReader:
    """See `Backend.open_tensors`."""
    require("coremltools", extra="coreml")
    with naming(path):
        return CoreMLTensors(path)


class CoreMLTensors:
    """The reference interpreter, watched. See `TensorReader`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.backends.coreml.interpreter import Program

        self._program = Program.load(path)
        package = self._program.package
        (image,) = package.inputs
        self.batch: int | None = image.shape[0]
        self._on_grid = {item.outputs[0].name for item in package.block.operations if item.type == "dequantize"}

    def run(self, feed: Feed) -> Tensors:
        """See `TensorReader.run`."""
        found = {name: FileTensor(np.asarray(values, np.float32), False) for name, values in feed.items()}

        def keep(name: str, value: "Tensor") -> None:
            if value.is_floating_point():
                found[name] = FileTensor(value.float().numpy(), name in self._on_grid)

        self._program.run(feed, keep)
        return found
