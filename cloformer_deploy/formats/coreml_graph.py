"""What an ML program costs, read off the package."""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from cloformer_deploy.formats.base import GraphSummary

if TYPE_CHECKING:
    from cloformer_deploy.runtimes.coreml_interpreter import Package
    from cloformer_deploy.runtimes.coreml_interpreter.types import TensorType

_FLOATS = ("float16", "float32")


def summarize(package: "Package") -> GraphSummary:
    """Transposes, ranks, parameters and multiply-accumulates; weights stored in few bits count as what they become."""
    from cloformer_deploy.runtimes.coreml_interpreter.types import TensorType, value_type

    types: dict[str, TensorType] = {}
    parameters = 0
    max_rank = 0
    for named in package.main.inputs:
        kind = value_type(named.type)
        if isinstance(kind, TensorType):
            types[named.name] = kind
    for operation in package.block.operations:
        constant = operation.type == "const" or operation.type.startswith("constexpr")
        for output in operation.outputs:
            kind = value_type(output.type)
            if not isinstance(kind, TensorType):
                continue
            types[output.name] = kind
            if not constant:
                max_rank = max(max_rank, len(kind.shape))
            elif kind.dtype.name in _FLOATS:
                parameters += kind.elements
    return GraphSummary(
        transposes=package.operators.get("transpose", 0),
        max_rank=max_rank,
        parameters=parameters,
        macs=sum(_macs(operation, types) for operation in package.block.operations),
    )


def _macs(operation: Any, types: Mapping[str, "TensorType"]) -> int:
    """Outputs times the terms of the sum behind each."""

    def shape(argument: str) -> tuple[int, ...]:
        return types[operation.inputs[argument].arguments[0].name].shape

    def outputs() -> int:
        return types[operation.outputs[0].name].elements

    match operation.type:
        case "conv" | "linear":  # (out, in, rows, columns), (out, in)
            return outputs() * prod(shape("weight")[1:])
        case "matmul":  # one of the last two axes of x is the sum's, turned or not; the other is the output's
            return outputs() * prod(shape("x")[-2:]) // types[operation.outputs[0].name].shape[-2]
        case "einsum":  # nchw,nwhu->nchu, the one that Core ML has
            return outputs() * shape("values")[-1]
    return 0
