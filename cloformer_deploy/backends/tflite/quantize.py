"""TFLite with integers: LiteRT's own quantizer, told operator by operator what to do, with a plan's ranges.

The quantizer chooses operators by the names of what they write, and finds ranges by the names of tensors. So every
tensor is first named after its node in the plan, with a prefix where its operator shall compute in integers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.tflite.describe import is_quantized, operator_name

if TYPE_CHECKING:
    from cloformer_deploy.quantization.plan import Plan
    from cloformer_deploy.quantization.preparation import Prepared

PLANNED = "planned:"
REQUANTIZED = "_quantized"
"""Suffix that the quantizer appends to a tensor's name where it turns a float tensor into integers."""
MOVES = frozenset({"PAD", "SLICE", "SPLIT", "RESHAPE", "TRANSPOSE"})
"""Operators that only move numbers: they are quantized where the operators that they feed are."""


def quantized(
    content: bytes, spec: ExportSpec, prepared: "Prepared", integer_io: bool
) -> tuple[bytes, dict[str, float]]:
    """Return a quantized copy of a float32 file's bytes, and the clipped shares of its quantized tensors, by name.

    Args:
        content: of the float32 file.
        spec: of the export.
        prepared: plan of the quantization, and its weights.
        integer_io: make integers of the input and the outputs too.
    """
    from ai_edge_litert.tools import flatbuffer_utils
    from ai_edge_quantizer import qtyping, quantizer

    plan = prepared.plan
    model = flatbuffer_utils.read_model_from_bytearray(content)
    matches = _match(content, spec, prepared) if plan.recipe.needs_calibration else {}
    ranges = _prepare(model, plan, matches) if plan.recipe.needs_calibration else None
    tool = quantizer.Quantizer(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    if ranges is None:
        tool.add_weight_only_config(".*", everything, plan.recipe.weight_bits)
    else:
        tool.add_static_config(f"^{PLANNED}", everything, plan.activation_bits, plan.recipe.weight_bits)
        _interface(tool, plan, integer_io)
    made = bytes(tool.quantize(ranges, enable_progress_report=False, enable_progress_bar=False).quantized_model)
    if ranges is None:
        return made, {}
    return _finished(made, prepared.clipped({f"{node}:{index}": node for index, node in matches.items()}))


def _interface(tool: Any, plan: "Plan", integer: bool) -> None:
    """Make the interface integer, or keep it float, also where the last operator is planned."""
    from ai_edge_quantizer import qtyping

    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        if integer:
            tool.add_static_config(".*", end, plan.activation_bits, plan.recipe.weight_bits)
        else:
            tool.update_quantization_recipe(".*", end, algorithm_key="no_quantize")


def _finished(content: bytes, shares: Mapping[str, float]) -> tuple[bytes, dict[str, float]]:
    """Return the file without the prefix, and the shares (given by the names before) by the names in the file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    clipped = {}
    for tensor in model.subgraphs[0].tensors:
        name = tensor.name.decode().removeprefix(PLANNED)
        tensor.name = name.encode()
        share = shares.get(name.removesuffix(REQUANTIZED))
        if is_quantized(tensor) and share is not None:
            clipped[name] = share
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), clipped


def _match(content: bytes, spec: ExportSpec, prepared: "Prepared") -> dict[int, str]:
    """Return the plan's tensor that each of the file's tensors (by index) corresponds to, found by running both."""
    from ai_edge_litert.tools import flatbuffer_utils

    from cloformer_deploy.backends.interface import probe
    from cloformer_deploy.backends.tflite.tensors import LiteRTTensors

    images, feed = probe(spec)
    found = ((_index(name), tensor.values) for name, tensor in LiteRTTensors(content).run(feed).items())
    operators = flatbuffer_utils.read_model_from_bytearray(content).subgraphs[0].operators
    inputs = {str(output): [*map(str, item.inputs)] for item in operators for output in item.outputs}
    return {int(index): node for index, node in prepared.matches(images, found, inputs).items()}


def _index(name: str) -> str:
    return name.rpartition(":")[2]


def _prepare(model: Any, plan: "Plan", matches: Mapping[int, str]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Name the tensors of a file, in place, and return the range of each computed tensor by that name."""
    from cloformer_deploy.quantization.plan import sigmoid_range

    graph = model.subgraphs[0]
    names = [operator_name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators]
    planned = _planned(graph.operators, names, plan, matches)
    written = {int(tensor) for index in planned for tensor in graph.operators[index].outputs}
    for index, tensor in enumerate(graph.tensors):
        prefix = PLANNED if index in written else ""
        tensor.name = f"{prefix}{matches.get(index, 'tensor')}:{index}".encode()
    computed = {*graph.inputs, *(tensor for operator in graph.operators for tensor in operator.outputs)}
    ranges = {}
    for index in map(int, computed):  # of weights the quantizer takes their own
        tensor = graph.tensors[index]
        kept = plan.ranges.get(matches.get(index, ""), sigmoid_range(plan.activation_bits))
        shape = (1,) * len(tensor.shape)
        low, high = np.full(shape, kept.low, np.float32), np.full(shape, kept.high, np.float32)
        ranges[tensor.name.decode()] = {"min": low, "max": high}
    return ranges


def _planned(operators: Sequence[Any], names: Sequence[str], plan: "Plan", matches: Mapping[int, str]) -> set[int]:
    """Return the indices of the operators that shall compute in integers."""
    planned: set[int] = set()
    read: set[int] = set()
    for index in reversed(range(len(operators))):
        operator, name = operators[index], names[index]
        output = int(operator.outputs[0])
        if name in MOVES or output not in matches:  # a move, or half of a SiLU: like the operators that it feeds
            wanted = any(int(tensor) in read for tensor in operator.outputs)
        else:
            wanted = matches[output] in plan.operators
        if wanted:
            planned.add(index)
            read.update(int(tensor) for tensor in operator.inputs)
    return planned
