"""Every tensor that an ONNX file computes: ONNX Runtime without optimizations, each tensor an output; and its node."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloformer_deploy.backends.base import Feed, FileTensor, TensorReader, Tensors
from cloformer_deploy.backends.description import GraphKeys
from cloformer_deploy.backends.failures import run_failed
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.errors import ToolError
from cloformer_deploy.system.packages import require

if TYPE_CHECKING:
    import onnx


def open_tensors(path: Path) -> TensorReader:
    """See `Backend.open_tensors`."""
    require("onnxruntime", extra="onnx")
    return OnnxTensors(load_model(path))


def graph_keys(path: Path) -> GraphKeys:
    """See `Backend.graph_keys`: the key of a node is its name, as `model-explorer-onnx` has it."""
    graph = load_model(path).graph
    nodes = {
        output: node.name or f"<node_{index}>"
        for index, node in enumerate(graph.node)
        for output in node.output
        if output
    }
    return GraphKeys(graph.name, nodes)


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

    def run(self, feed: Feed) -> Tensors:
        """See `TensorReader.run`."""
        names = [value.name for value in self._session.get_outputs()]
        try:
            computed = self._session.run(names, dict(feed))
        except Exception as error:
            raise run_failed("ONNX Runtime", feed, error) from error
        found = [*feed.items(), *zip(names, computed, strict=True)]
        return {
            name: FileTensor(np.asarray(values, np.float32), name in self._on_grid)
            for name, values in found
            if isinstance(values, np.ndarray) and values.dtype.kind == "f"
        }
