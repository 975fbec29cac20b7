"""Describe ONNX files: interface, operators, cost, quantized tensors."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.description import Description, GraphSummary, QuantizedTensor, TensorInfo
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.backends.quantized_tensors import clipped_shares, on_grid
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.files import naming
from cloformer_deploy.system.text import clipped

if TYPE_CHECKING:
    import onnx

_CONTRACTIONS = ("Conv", "MatMul", "Gemm")


def describe(path: Path) -> Description:
    """See `Backend.describe`."""
    model = load_model(path)
    graph = model.graph
    stored = metadata.parsed({prop.key: prop.value for prop in model.metadata_props})
    weights = {tensor.name for tensor in graph.initializer}
    with naming(path):
        summary = summarize(model)
    return Description(
        format="onnx",
        precision=stored.get("precision"),
        inputs=tuple(_tensor_info(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_tensor_info(value) for value in graph.output),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        graph=summary,
        bytes=path.stat().st_size,
        metadata=stored,
        quantized=integers(model, clipped_shares(stored)),
    )


def summarize(model: "onnx.ModelProto") -> GraphSummary:
    """Count transposes, axes, parameters and multiply-accumulates of a model with its weights inside."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    weights = model.graph.initializer
    shapes = shapes_of(model)
    macs = node_macs(model, shapes)
    return GraphSummary(
        transposes=sum(node.op_type == "Transpose" for node in model.graph.node),
        max_rank=max(map(len, shapes.values()), default=0),
        parameters=sum(prod(item.dims) for item in weights if item.data_type in floats),
        macs=None if macs is None else sum(macs.values()),
    )


def shapes_of(model: "onnx.ModelProto") -> dict[str, tuple[int, ...]]:
    """Return the known shapes of tensors by name; a dynamic batch counts as 1."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        graph = model.graph
    except ValueError as error:  # the reader in C++ is stricter than that in Python
        raise BundleError(f"its graph is damaged: {error}", "export it again") from error
    shapes: dict[str, tuple[int, ...]] = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim)
    return shapes


def node_macs(model: "onnx.ModelProto", shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
    """Return the multiply-accumulates of each convolution and matrix product, by its name.

    Args:
        model: with its weights inside.
        shapes: of its tensors, as `shapes_of` returns them.

    Returns:
        None where a shape is not known.
    """
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type not in _CONTRACTIONS:
            continue
        if len(node.input) < 2 or not node.output:
            raise BundleError(f"its {node.op_type} '{clipped(node.name)}' lacks inputs or outputs", "export it again")
        if not all(name in shapes for name in (*node.input[:2], node.output[0])):
            return None
        first, second, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
        # Terms of the sum behind one output: of a convolution, the weights of one output channel.
        if node.op_type == "Conv":
            terms = prod(second[1:])
        else:
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            if len(first) <= transposed:
                raise BundleError(f"its {node.op_type} multiplies a tensor of {len(first)} axes", "export it again")
            terms = first[-2 if transposed else -1]
        name = node.name or node.output[0]  # foreign files may use a name twice
        found[name] = found.get(name, 0) + prod(out) * terms
    return found


def integers(model: "onnx.ModelProto", shares: Mapping[str, float]) -> tuple[QuantizedTensor, ...]:
    """Return the tensors that QuantizeLinear turns into integers, by their float names, and the constant integers.

    Args:
        model: with its weights inside.
        shares: clipped share of each tensor's values, 0..1, by name.
    """
    constants = {item.name: item for item in model.graph.initializer}
    nodes = (node for node in model.graph.node if node.op_type == "Constant")
    constants |= {
        name: item.t for node in nodes for name in node.output for item in node.attribute if item.name == "value"
    }
    found = []
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 2:
            continue
        name, scale, zero_point = (*node.input, "")[:3]
        if node.op_type == "DequantizeLinear" and name not in constants:
            continue  # computed by a QuantizeLinear, or an input
        found.append(
            on_grid(
                name,
                _integer_type(node, constants),
                _numbers(constants.get(scale)),
                _numbers(constants.get(zero_point)),
                constant=name in constants,
                clipped=shares.get(name),
            )
        )
    return tuple(found)


def _integer_type(node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]") -> str:
    """Return the type of a node's integers: that of the zero point, if it has one."""
    import onnx

    zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero_point is not None:
        number = zero_point.data_type
    elif node.op_type == "DequantizeLinear":
        number = constants[node.input[0]].data_type
    else:
        number = next((item.i for item in node.attribute if item.name == "output_dtype"), onnx.TensorProto.UINT8)
    try:
        return str(onnx.TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return str(number)


def _numbers(tensor: "onnx.TensorProto | None") -> NDArray[np.float64] | None:
    import onnx

    if tensor is None:
        return None
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor), np.float64)
    except (KeyError, TypeError, ValueError):  # of no known type, of texts, or damaged
        return None


def _tensor_info(value: Any) -> TensorInfo:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:  # a sequence, a map, or nothing at all
        dtype = value.type.WhichOneof("value") or "unknown"
    return TensorInfo(value.name, shape, dtype)
