"""Describe Core AI assets: interface, operators, cost, quantized tensors."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.backends.coreai.constants import LOOKED_UP, SCALED, numbers, stored
from cloformer_deploy.backends.coreai.program import CONSTANT, Operation, Program
from cloformer_deploy.backends.description import Description, GraphSummary, QuantizedTensor, TensorInfo
from cloformer_deploy.backends.quantized_tensors import clipped_shares, in_palette, on_grid
from cloformer_deploy.errors import BundleError

_COMPRESSED = (SCALED, LOOKED_UP)


def describe(path: Path) -> Description:
    """See `Backend.describe`."""
    program = process.read(path)
    told = metadata.parsed(program.metadata)
    try:
        quantized = integers(program, clipped_shares(told))
        graph = summarize(program)
    except (ArithmeticError, LookupError) as error:  # an operation without its inputs, or with others' shapes
        raise BundleError(f"{path} is damaged: {error!r}", "export it again") from error
    return Description(
        format="coreai",
        precision=told.get("precision"),
        inputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in program.inputs),
        outputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in program.outputs),
        operators=Counter(item.type for item in program.operations if item.type != CONSTANT),
        graph=graph,
        bytes=sum(file.stat().st_size for file in path.iterdir()),
        metadata=told,
        quantized=quantized,
    )


def summarize(program: Program) -> GraphSummary:
    """Count transposes, axes, parameters (compressed ones as floats) and multiply-accumulates of a program."""
    parts = {name for item in program.operations if item.type in _COMPRESSED for name in item.inputs}
    shapes = {item.name: item.shape for item in program.inputs}
    constants = {item.outputs[0].name for item in program.operations if item.type in (CONSTANT, *_COMPRESSED)}
    parameters = macs = rank = transposes = 0
    for item in program.operations:
        shapes.update({output.name: output.shape for output in item.outputs})
        held = [output for output in item.outputs if output.dtype.startswith("float") and output.name not in parts]
        if item.type == CONSTANT or item.type in _COMPRESSED:
            parameters += sum(prod(output.shape) for output in held)
            continue
        rank = max(rank, *(len(output.shape) for output in item.outputs))
        transposes += item.type == "transpose" and item.inputs[0] not in constants
        macs += _macs(item, shapes)
    return GraphSummary(transposes, rank, parameters, macs)


def _macs(item: Operation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the multiply-accumulates of an operation: outputs times the terms of the sum behind each."""
    match item.type:
        case "conv2d":  # (out, in, rows, columns)
            return prod(item.outputs[0].shape) * prod(shapes[item.inputs[1]][1:])
        case "batch_matmul":
            return prod(item.outputs[0].shape) * shapes[item.inputs[0]][-1]
    return 0


def integers(program: Program, shares: Mapping[str, float]) -> tuple[QuantizedTensor, ...]:
    """Return the tensors that `quantize` turns into integers, by their float names, and the compressed weights.

    Args:
        program: of the asset.
        shares: clipped share of each tensor's values, 0..1, by name.
    """
    constants = stored(program)
    dtypes = {output.name: output.dtype for item in program.operations for output in item.outputs}
    made = [_quantized(item, constants, dtypes, shares) for item in program.operations]
    return tuple(item for item in made if item is not None)


def _quantized(
    item: Operation,
    constants: Mapping[str, NDArray[Any]],
    dtypes: Mapping[str, str],
    shares: Mapping[str, float],
) -> QuantizedTensor | None:
    name, given = item.outputs[0].name, item.inputs
    match item.type:
        case "quantize":
            grid = numbers(constants, given[1]), numbers(constants, given[2])
            return on_grid(given[0], item.outputs[0].dtype, *grid, constant=False, clipped=shares.get(given[0]))
        case "blockwise_shift_scale":
            grid = numbers(constants, given[1]), numbers(constants, given[2])
            return on_grid(name, dtypes[given[0]], *grid, constant=True)
        case "lut_to_dense":
            table = numbers(constants, given[1])
            return in_palette(name, table, 0 if table is None else table.size)
    return None
