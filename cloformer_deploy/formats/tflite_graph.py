"""What a TFLite graph costs, read off the file."""

from math import prod
from typing import Any

from cloformer_deploy.formats.base import GraphSummary


def summarize(model: Any, names: list[str]) -> GraphSummary:
    """Transposes, ranks, parameters and multiply-accumulates.

    Args:
        model: the schema's `ModelT`.
        names: of each operator of the main graph, in order.
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


def enum_names(enumeration: type) -> dict[int, str]:
    """The names in one of the schema's enumerations, by their numbers."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def operator_name(code: Any) -> str:
    """The name of an operator code: a built-in's, or `CUSTOM:` and its own."""
    from ai_edge_litert import schema_py_generated as schema

    # Codes beyond 127 do not fit the older field, which then holds a placeholder.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = enum_names(schema.BuiltinOperator).get(number, str(number))
    return f"CUSTOM:{code.customCode.decode(errors='replace')}" if name == "CUSTOM" else name


def _macs(operator: Any, name: str, shapes: list[tuple[int, ...]]) -> int:
    """Outputs times the terms of the sum behind each."""
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return 0
    first, second = (shapes[int(index)] for index in operator.inputs[:2])
    out = prod(shapes[int(operator.outputs[0])])
    if name == "CONV_2D":  # (out, rows, columns, in)
        return out * prod(second[1:])
    if name == "DEPTHWISE_CONV_2D":  # (1, rows, columns, channels)
        return out * prod(second[:-1])
    if name == "BATCH_MATMUL" and operator.builtinOptions is not None and operator.builtinOptions.adjX:
        return out * first[-2]
    return out * (second if name == "FULLY_CONNECTED" else first)[-1]
