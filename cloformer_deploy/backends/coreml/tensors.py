"""Every tensor that a Core ML package computes: the interpreter, observed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME, FileTensor, TensorReader, Tensors
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.packages import require

if TYPE_CHECKING:
    from torch import Tensor


def open_tensors(path: Path) -> TensorReader:
    """See `Backend.open_tensors`."""
    require("coremltools", extra="coreml")
    try:
        return CoreMLTensors(path)
    except BundleError as error:
        raise BundleError(f"{path}: {error.message}", error.hint) from error


class CoreMLTensors:
    """The reference interpreter, watched. See `TensorReader`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.backends.coreml.interpreter import Program

        self._program = Program.load(path)
        package = self._program.package
        (image,) = package.inputs
        self.batch: int | None = image.shape[0]
        self._on_grid = {item.outputs[0].name for item in package.block.operations if item.type == "dequantize"}

    def run(self, images: NDArray[Any]) -> Tensors:
        """See `TensorReader.run`."""
        found = {INPUT_NAME: FileTensor(np.asarray(images, np.float32), False)}

        def keep(name: str, value: "Tensor") -> None:
            if value.is_floating_point():
                found[name] = FileTensor(value.float().numpy(), name in self._on_grid)

        self._program.run({INPUT_NAME: images}, keep)
        return found
