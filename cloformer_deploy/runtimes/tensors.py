"""Every tensor that a file computes, not its outputs alone: one class a format behind the Protocol `TensorReader`.

Nothing is fused and no delegate takes part, so that a file's operators are run one by one as it lists them.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.errors import BundleError, ToolError
from cloformer_deploy.formats.base import INPUT_NAME
from cloformer_deploy.packages import require

if TYPE_CHECKING:
    import onnx
    from torch import Tensor


@dataclass(frozen=True)
class FileTensor:
    """What a tensor of a file holds, in the file's own layout.

    Attributes:
        values: float32; integers are dequantised.
        on_grid: they are integers, or come straight from such.
    """

    values: NDArray[np.float32]
    on_grid: bool


Tensors = Mapping[str, FileTensor]
"""By name, in the order of computation; only those that are floats, or stand for such."""


class TensorReader(Protocol):
    """A loaded file."""

    batch: int | None
    """As in `runtimes.Session`."""

    def run(self, images: NDArray[Any]) -> Tensors:
        """Everything that the file computes for images as `runtimes.Session.run` takes them, and its input.

        Raises:
            ToolError: the runtime failed.
        """
        ...


def open_tensors(format_name: str, path: Path) -> TensorReader:
    """Load a file of a format.

    Raises:
        MissingPartError: the runtime is not installed.
        BundleError: the file is damaged.
        ToolError: the runtime cannot run it.
    """
    return _READERS[format_name](path)


class OnnxTensors:
    """ONNX Runtime, with every tensor an output of the graph. See `TensorReader`."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        import onnx
        import onnxruntime

        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        outputs = {value.name for value in shown.graph.output}
        inner = [name for node in shown.graph.node for name in node.output if name and name not in outputs]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
        self._on_grid = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exception classes share no base but Exception
            raise ToolError(f"ONNX Runtime cannot show all tensors: {error}", "export it again") from error
        batch = self._session.get_inputs()[0].shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None

    def run(self, images: NDArray[Any]) -> Tensors:
        """See `TensorReader.run`."""
        names = [value.name for value in self._session.get_outputs()]
        try:
            computed = self._session.run(names, {INPUT_NAME: images})
        except Exception as error:
            message = f"ONNX Runtime failed on an input {images.dtype} {images.shape}: {error}"
            raise ToolError(message, "export it again") from error
        found = [(INPUT_NAME, images), *zip(names, computed, strict=True)]
        return {
            name: FileTensor(np.asarray(values, np.float32), name in self._on_grid)
            for name, values in found
            if isinstance(values, np.ndarray) and values.dtype.kind == "f"
        }


class LiteRTTensors:
    """LiteRT without XNNPACK. A tensor's name is followed by its index, for names repeat. See `TensorReader`."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # keeping all tensors is for debugging, it says, and takes memory
                self._interpreter = Interpreter(
                    model_content=content,
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ToolError(f"LiteRT cannot show all tensors: {error}", "export it again") from error
        (self._input,) = self._interpreter.get_input_details()
        self.batch: int | None = int(self._input["shape"][0])
        computed = {index for item in self._interpreter._get_ops_details() for index in item["outputs"]}
        self._details = [
            item
            for item in self._interpreter.get_tensor_details()
            if item["index"] in computed or item["index"] == self._input["index"]
        ]

    def run(self, images: NDArray[Any]) -> Tensors:
        """See `TensorReader.run`."""
        try:
            self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
            self._interpreter.invoke()
            read = [(item, self._interpreter.get_tensor(item["index"])) for item in self._details]
        except (ValueError, RuntimeError) as error:
            message = f"LiteRT failed on an input {images.dtype} {images.shape}: {error}"
            raise ToolError(message, "export it again") from error
        found = {}
        for item, values in read:
            scale, zero_point = item["quantization"]  # of the whole tensor: activations have no others
            if values.dtype.kind == "f":
                found[f"{item['name']}:{item['index']}"] = FileTensor(np.asarray(values, np.float32), False)
            elif scale:
                numbers = (values.astype(np.float32) - zero_point) * np.float32(scale)
                found[f"{item['name']}:{item['index']}"] = FileTensor(numbers, True)
        return found


class CoreMLTensors:
    """The reference interpreter, watched. See `TensorReader`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.runtimes.coreml_interpreter import Program

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


def _onnx(path: Path) -> TensorReader:
    from cloformer_deploy.formats.onnx import load_model

    require("onnxruntime", extra="onnx")
    return OnnxTensors(load_model(path))


def _litert(path: Path) -> TensorReader:
    require("ai_edge_litert", extra="tflite")
    return LiteRTTensors(path.read_bytes())


def _coreml(path: Path) -> TensorReader:
    require("coremltools", extra="coreml")
    try:
        return CoreMLTensors(path)
    except BundleError as error:
        raise BundleError(f"{path}: {error.message}", error.hint) from error


_READERS: Mapping[str, Callable[[Path], TensorReader]] = {"onnx": _onnx, "tflite": _litert, "coreml": _coreml}
