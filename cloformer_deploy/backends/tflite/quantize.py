"""TFLite with integers: LiteRT's own quantizer, told operator by operator what to do, with a plan's ranges.

The quantizer chooses operators by the names of what they write, and finds ranges by the names of tensors. So every
tensor is first named after its node in the plan, with a prefix where its operator shall compute in integers, or another
one for integers of the recipe's `excluded_bits`.
"""

from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.tflite.describe import is_quantized, operator_name
from cloformer_deploy.backends.tflite.file import packed
from cloformer_deploy.errors import ToolError

if TYPE_CHECKING:
    from cloformer_deploy.quantization.observers import Range
    from cloformer_deploy.quantization.plan import Plan
    from cloformer_deploy.quantization.preparation import Prepared

PLANNED, WIDE = "planned:", "wide:"
REQUANTIZED = "_quantized"
"""Suffix that the quantizer appends to a tensor's name where it turns a float tensor into integers."""
MOVES = frozenset({"PAD", "SLICE", "SPLIT", "RESHAPE", "TRANSPOSE"})
"""Operators that only move numbers: they move integers where operators before or behind them are quantized."""


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
    tool = quantizer.Quantizer(packed(model))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    if ranges is None:
        tool.add_weight_only_config(".*", everything, plan.recipe.weight_bits)
    else:
        for prefix, bits in _bits(plan).items():
            tool.add_static_config(f"^{prefix}", everything, bits, plan.recipe.weight_bits)
        _interface(tool, plan, integer_io)
    made = bytes(tool.quantize(ranges, enable_progress_report=False, enable_progress_bar=False).quantized_model)
    if ranges is None:
        return made, {}
    return _finished(made, prepared.clipped({f"{node}:{index}": node for index, node in matches.items()}))


def _bits(plan: "Plan") -> dict[str, int]:
    """Return the bits of activations around operators, by the prefix of their tensors' names."""
    bits = {PLANNED: plan.activation_bits}
    if plan.recipe.excluded_bits is not None:
        bits[WIDE] = plan.recipe.excluded_bits
    return bits


def _interface(tool: Any, plan: "Plan", integer: bool) -> None:
    """Make the interface integer, or keep it float, also where the last operator is planned.

    Integer outputs have the bits of the operators that write them: the quantizer takes them for planned, too.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName

    if integer:
        tool.add_static_config(".*", TFLOperationName.INPUT, plan.activation_bits, plan.recipe.weight_bits)
        return
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        tool.update_quantization_recipe(".*", end, algorithm_key="no_quantize")


def _finished(content: bytes, shares: Mapping[str, float]) -> tuple[bytes, dict[str, float]]:
    """Return the file without the prefix, and the shares (given by the names before) by the names in the file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    clipped = {}
    for tensor in model.subgraphs[0].tensors:
        name = tensor.name.decode().removeprefix(PLANNED).removeprefix(WIDE)
        tensor.name = name.encode()
        share = shares.get(name.removesuffix(REQUANTIZED))
        if is_quantized(tensor) and share is not None:
            clipped[name] = share
    return packed(model), clipped


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
    graph = model.subgraphs[0]
    names = [operator_name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators]
    prefixes: dict[int, str] = {}
    ends = frozenset(map(int, graph.outputs))
    for prefix, chosen in ((WIDE, plan.wide), (PLANNED, plan.operators)):  # 8 bits, where moves feed both
        for index in _planned(graph.operators, names, chosen, matches, ends):
            prefixes.update((int(tensor), prefix) for tensor in graph.operators[index].outputs)
    for index, tensor in enumerate(graph.tensors):
        tensor.name = f"{prefixes.get(index, '')}{matches.get(index, 'tensor')}:{index}".encode()
    ranges = {}
    for index, kept in _ranges(graph, names, plan, matches, prefixes).items():
        shape = (1,) * len(graph.tensors[index].shape)
        low, high = np.full(shape, kept.low, np.float32), np.full(shape, kept.high, np.float32)
        ranges[graph.tensors[index].name.decode()] = {"min": low, "max": high}
    return ranges


def _ranges(
    graph: Any, names: Sequence[str], plan: "Plan", matches: Mapping[int, str], prefixes: Mapping[int, str]
) -> "dict[int, Range]":
    """Return the range of each computed tensor by its index; of weights the quantizer takes their own.

    Raises:
        ToolError: an operator that shall compute in integers writes a tensor whose range is not known.
    """
    from cloformer_deploy.quantization.plan import sigmoid_range

    known = {**plan.wide_ranges, **plan.ranges}
    known |= {node: known[end] for node, end in plan.results.items() if end in known}
    unused = sigmoid_range(plan.activation_bits)  # of float tensors, for which the quantizer wants a range too
    found = {int(index): known.get(matches.get(int(index), ""), unused) for index in graph.inputs}
    for operator, name in zip(graph.operators, names, strict=True):
        for index in map(int, operator.outputs):
            kept = known.get(matches.get(index, ""))
            if kept is None and name == "LOGISTIC":
                kept = sigmoid_range(plan.activation_bits)
            if kept is None and name in MOVES:
                kept = found.get(int(operator.inputs[0]))
            if kept is None and index in prefixes:
                written = graph.tensors[index].name.decode()
                raise ToolError(f"no range is known of the {name} that writes {written!r}", "report this")
            found[index] = unused if kept is None else kept
    return found


def _planned(
    operators: Sequence[Any],
    names: Sequence[str],
    chosen: Collection[str],
    matches: Mapping[int, str],
    ends: Container[int],
) -> set[int]:
    """Return the indices of the operators that are chosen by the names of their nodes, or move numbers to or from such.

    Operators that write outputs of the file (`ends`) move no numbers from such: its interface is float.
    """
    planned: set[int] = set()
    read: set[int] = set()
    for index in reversed(range(len(operators))):
        operator, name = operators[index], names[index]
        output = int(operator.outputs[0])
        if name in MOVES or output not in matches:  # a move, or half of a SiLU: like the operators that it feeds
            wanted = any(int(tensor) in read for tensor in operator.outputs)
        else:
            wanted = matches[output] in chosen
        if wanted:
            planned.add(index)
            read.update(int(tensor) for tensor in operator.inputs)
    written: set[int] = set()
    for index, operator in enumerate(operators):  # fewer bytes are moved as integers
        outputs = [int(tensor) for tensor in operator.outputs]
        moves = names[index] in MOVES and int(operator.inputs[0]) in written
        if index in planned or (moves and not any(tensor in ends for tensor in outputs)):
            planned.add(index)
            written.update(outputs)
    return planned
