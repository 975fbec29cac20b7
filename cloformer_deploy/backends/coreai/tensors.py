"""Every float tensor that a Core AI asset computes, in Apple's interpreter: all of them become outputs."""

from pathlib import Path

import numpy as np

from cloformer_deploy.backends.base import Feed, FileTensor, TensorReader, Tensors
from cloformer_deploy.backends.coreai import process


def open_tensors(path: Path) -> TensorReader:
    """See `Backend.open_tensors`."""
    return CoreAITensors(path)


class CoreAITensors:
    """Apple's interpreter, which returns every tensor. See `TensorReader`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.backends.coreai.program import CONSTANT

        program = process.read(path)
        self.batch: int | None = program.inputs[0].shape[0]
        computed = [item for item in program.operations if item.type != CONSTANT]
        self._names = [value.name for item in computed for value in item.outputs if value.dtype.startswith("float")]
        self._on_grid = {value.name for item in computed if item.type == "dequantize" for value in item.outputs}
        self._processes = process.Processes(path, 1, tensors=True)

    def run(self, feed: Feed) -> Tensors:
        """See `TensorReader.run`."""
        found = {name: FileTensor(np.asarray(values, np.float32), False) for name, values in feed.items()}
        (computed,) = self._processes.run([feed])
        for name in self._names:
            found[name] = FileTensor(np.asarray(computed[name], np.float32), name in self._on_grid)
        return found
