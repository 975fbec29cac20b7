"""What an ONNX graph costs, read off the file."""

from math import prod
from typing import TYPE_CHECKING

from cloformer_deploy.formats.base import GraphSummary

if TYPE_CHECKING:
    import onnx

_CONTRACTIONS = ("Conv", "MatMul", "Gemm")


def summarize(model: "onnx.ModelProto") -> GraphSummary:
    """Transposes, ranks, parameters and multiply-accumulates of a model with its weights inside."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    weights = model.graph.initializer
    shapes = _shapes(model)
    return GraphSummary(
        transposes=sum(node.op_type == "Transpose" for node in model.graph.node),
        max_rank=max(map(len, shapes.values()), default=0),
        parameters=sum(prod(item.dims) for item in weights if item.data_type in floats),
        macs=_macs(model, shapes),
    )


def _shapes(model: "onnx.ModelProto") -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors that are known; a dynamic batch counts as 1."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        graph = model.graph
    shapes: dict[str, tuple[int, ...]] = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim)
    return shapes


def _macs(model: "onnx.ModelProto", shapes: dict[str, tuple[int, ...]]) -> int | None:
    total = 0
    for node in model.graph.node:
        if node.op_type not in _CONTRACTIONS:
            continue
        if not all(name in shapes for name in (*node.input[:2], node.output[0])):
            return None
        first, second, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
        # Terms of the sum behind one output: of a convolution, the weights of one output channel.
        if node.op_type == "Conv":
            terms = prod(second[1:])
        else:
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            terms = first[-2 if transposed else -1]
        total += prod(out) * terms
    return total
