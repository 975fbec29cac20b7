"""TFLite with integers: LiteRT's own quantiser, told operator by operator what to do, with a plan's ranges.

The quantiser chooses operators by the names of what they write, and finds ranges by the names of tensors. So every
tensor is first named after its twin in the plan, with a prefix where its operator shall compute in integers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloformer_deploy.quantization import SIGMOID_RANGE, Plan

PLANNED = "planned:"
MOVES = frozenset({"PAD", "SLICE", "SPLIT", "RESHAPE", "TRANSPOSE"})
"""Operators that move numbers: integers where what they feed is."""


def quantize(content: bytes, plan: Plan, twins: Mapping[int, str]) -> bytes:
    """The integer form of a float32 file.

    Args:
        content: the float32 file.
        plan: what becomes an integer.
        twins: the plan's tensor behind each of the file's, by index (`quantization.identify`).
    """
    from ai_edge_litert.tools import flatbuffer_utils
    from ai_edge_quantizer import qtyping, quantizer

    from cloformer_deploy.formats.tflite import operator_name

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    names = [operator_name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators]
    planned = _planned(graph.operators, names, plan, twins)
    _name(graph, planned, twins)
    tool = quantizer.Quantizer(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    tool.add_static_config(
        regex=f"^{PLANNED}",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=plan.activation_bits,
        weight_num_bits=plan.recipe.weight_bits,
    )
    ranges = {}
    computed = {*graph.inputs, *(tensor for operator in graph.operators for tensor in operator.outputs)}
    for index in map(int, computed):  # of weights the quantiser takes their own
        tensor = graph.tensors[index]
        kept = plan.ranges.get(twins.get(index, ""), SIGMOID_RANGE)
        ranges[tensor.name.decode()] = {
            "min": np.full((1,) * len(tensor.shape), kept.low, np.float32),
            "max": np.full((1,) * len(tensor.shape), kept.high, np.float32),
        }
    return bytes(tool.quantize(ranges, enable_progress_report=False, enable_progress_bar=False).quantized_model)


def _planned(operators: Sequence[Any], names: Sequence[str], plan: Plan, twins: Mapping[int, str]) -> set[int]:
    """The indices of the operators that shall compute in integers."""
    planned: set[int] = set()
    read: set[int] = set()
    for index in reversed(range(len(operators))):
        operator, name = operators[index], names[index]
        output = int(operator.outputs[0])
        if name in MOVES or output not in twins:  # a move, or half of a SiLU: as what it feeds
            wanted = any(int(tensor) in read for tensor in operator.outputs)
        else:
            wanted = twins[output] in plan.operators
        if wanted:
            planned.add(index)
            read.update(int(tensor) for tensor in operator.inputs)
    return planned


def _name(graph: Any, planned: set[int], twins: Mapping[int, str]) -> None:
    """Give every tensor a name of its own: its twin's, with the prefix where a planned operator writes it."""
    written = {int(tensor) for index in planned for tensor in graph.operators[index].outputs}
    for index, tensor in enumerate(graph.tensors):
        prefix = PLANNED if index in written else ""
        tensor.name = f"{prefix}{twins.get(index, 'tensor')}:{index}".encode()
