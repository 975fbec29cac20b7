"""Describe TFLite files: interface, operators, cost, quantized tensors."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import METADATA_PREFIX
from cloformer_deploy.backends.description import Description, GraphSummary, QuantizedTensor, TensorInfo
from cloformer_deploy.backends.quantized_tensors import clipped_shares, on_grid
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.errors import BundleError


def describe(path: Path) -> Description:
    """See `Backend.describe`."""
    model = load_model(path)
    graph = model.subgraphs[0]
    stored = metadata.parsed(_metadata(model))
    try:
        names = [operator_name(model.operatorCodes[op.opcodeIndex]) for op in graph.operators]
        summary = summarize(model, names)
        quantized_tensors = integers(model, clipped_shares(stored))
    except (LookupError, TypeError, ValueError) as error:  # indices and shapes that lead nowhere
        raise BundleError(f"{path} is damaged: {error}", "export it again") from error
    return Description(
        format="tflite",
        precision=stored.get("precision"),
        inputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.inputs),
        outputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.outputs),
        operators=dict(Counter(names).most_common()),
        graph=summary,
        bytes=path.stat().st_size,
        metadata=stored,
        quantized=quantized_tensors,
    )


def summarize(model: Any, names: list[str]) -> GraphSummary:
    """Count transposes, axes, parameters and multiply-accumulates.

    Args:
        model: the schema's `ModelT`.
        names: names of the main graph's operators, in order.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    shapes = [tuple(map(int, tensor.shape)) if tensor.shape is not None else () for tensor in graph.tensors]
    weights = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.INT8)
    return GraphSummary(
        transposes=names.count("TRANSPOSE"),
        max_rank=max(map(len, shapes), default=0),
        parameters=sum(
            prod(shape)
            for tensor, shape in zip(graph.tensors, shapes, strict=True)
            if tensor.type in weights and model.buffers[tensor.buffer].data is not None
        ),
        macs=sum(_macs(operator, name, shapes) for operator, name in zip(graph.operators, names, strict=True)),
    )


def integers(model: Any, shares: Mapping[str, float]) -> tuple[QuantizedTensor, ...]:
    """Return the main graph's tensors with quantization parameters.

    Args:
        model: the schema's `ModelT`.
        shares: clipped share of each tensor's values, 0..1, by name.
    """
    found = []
    for tensor in model.subgraphs[0].tensors:
        if is_quantized(tensor):
            name = _text(tensor.name)
            constant = model.buffers[tensor.buffer].data is not None
            scale, zero_point = (_numbers(part) for part in (tensor.quantization.scale, tensor.quantization.zeroPoint))
            share = shares.get(name)
            found.append(on_grid(name, tensor_type(tensor), scale, zero_point, constant=constant, clipped=share))
    return tuple(found)


def is_quantized(tensor: Any) -> bool:
    """Tell whether a tensor has a scale."""
    return tensor.quantization is not None and _numbers(tensor.quantization.scale) is not None


def _numbers(values: Any) -> NDArray[np.float64] | None:
    """Return an array of numbers; None where there are none."""
    return None if values is None or len(values) == 0 else np.asarray(values, np.float64)


def tensor_type(tensor: Any) -> str:
    """Return the element type of a tensor, such as int8."""
    from ai_edge_litert import schema_py_generated as schema

    return enum_names(schema.TensorType).get(tensor.type, str(tensor.type)).lower()


def enum_names(enumeration: type) -> dict[int, str]:
    """Return the names in one of the schema's enumerations, by number."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def operator_name(code: Any) -> str:
    """Return the name of an operator code: a built-in's, or `CUSTOM:` followed by its own."""
    from ai_edge_litert import schema_py_generated as schema

    # Codes beyond 127 do not fit the older field, which then holds a placeholder.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = enum_names(schema.BuiltinOperator).get(number, str(number))
    return f"CUSTOM:{_text(code.customCode)}" if name == "CUSTOM" else name


def _macs(operator: Any, name: str, shapes: list[tuple[int, ...]]) -> int:
    """Return the multiply-accumulates of an operator: outputs times the terms of the sum behind each."""
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return 0
    first, second = (shapes[int(index)] for index in operator.inputs[:2])
    out = prod(shapes[int(operator.outputs[0])])
    if name == "CONV_2D":  # (out, rows, columns, in)
        return out * prod(second[1:])
    if name == "DEPTHWISE_CONV_2D":  # (1, rows, columns, channels)
        return out * prod(second[:-1])
    # In a damaged file the options may be missing, or another operator's.
    if name == "BATCH_MATMUL" and getattr(operator.builtinOptions, "adjX", False):
        return out * first[-2]
    return out * (second if name == "FULLY_CONNECTED" else first)[-1]


def macs_by_operator(model: Any) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return how many operators of each name the main graph has, and their multiply-accumulates, by name."""
    graph = model.subgraphs[0]
    shapes = [tuple(map(int, tensor.shape)) if tensor.shape is not None else () for tensor in graph.tensors]
    counts, macs = Counter[str](), Counter[str]()
    for operator in graph.operators:
        name = operator_name(model.operatorCodes[operator.opcodeIndex])
        counts[name] += 1
        macs[name] += _macs(operator, name, shapes)
    return counts, macs


def _metadata(model: Any) -> dict[str, str]:
    """Return our own entries; the converter's (a runtime version, markers) are binary and of no use to a reader."""
    found = {}
    for entry in model.metadata or []:
        name = _text(entry.name)
        if name.startswith(METADATA_PREFIX) and 0 <= entry.buffer < len(model.buffers):
            data = model.buffers[entry.buffer].data
            found[name] = bytes(data if data is not None else b"").decode(errors="replace")
    return found


def _tensor_info(tensor: Any) -> TensorInfo:
    shape = tuple(int(side) for side in tensor.shape) if tensor.shape is not None else ()
    return TensorInfo(_text(tensor.name), shape, tensor_type(tensor))


def _text(stored: bytes | None) -> str:
    """Return a text of the file, "" for one that is left out."""
    return "" if stored is None else stored.decode(errors="replace")
