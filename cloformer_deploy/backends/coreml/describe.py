"""Describe Core ML packages: interface, operators, cost, quantized tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.description import Description, GraphSummary, QuantizedTensor, TensorInfo
from cloformer_deploy.backends.quantized_tensors import clipped_shares, in_palette, on_grid
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.files import naming

if TYPE_CHECKING:
    from cloformer_deploy.backends.coreml.interpreter import Feature, Package
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType

_FLOATS = ("float16", "float32")


def describe(path: Path) -> Description:
    """See `Backend.describe`."""
    from cloformer_deploy.backends.coreml.interpreter import Package

    try:
        with naming(path):
            package = Package.load(path)
            package.check_weight_files()
            graph = summarize(package)
            stored = metadata.parsed(package.metadata)
            quantized_tensors = integers(package, clipped_shares(stored))
    except (ArithmeticError, LookupError) as error:  # an operation without its inputs, or with others' shapes
        raise BundleError(f"{path} is damaged: {error!r}", "export it again") from error
    return Description(
        format="coreml",
        precision=stored.get("precision"),
        inputs=tuple(map(_info, (*package.inputs, *package.optional))),
        outputs=tuple(map(_info, package.outputs)),
        operators=package.operators,
        graph=graph,
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        metadata=stored,
        quantized=quantized_tensors,
    )


def _info(feature: "Feature") -> TensorInfo:
    shape = tuple("any" if side == -1 else side for side in feature.shape)
    return TensorInfo(feature.name, shape, feature.dtype)


def summarize(package: "Package") -> GraphSummary:
    """Count transposes, axes, parameters (compressed ones as floats) and multiply-accumulates of a package."""
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType, value_type

    types = _types(package)
    parameters = 0
    max_rank = 0
    for operation in package.block.operations:
        constant = operation.type == "const" or operation.type.startswith("constexpr")
        for output in operation.outputs:
            kind = value_type(output.type)
            if not isinstance(kind, TensorType):
                continue
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


@dataclass(frozen=True)
class Computed:
    """An operation of a program that computes a tensor.

    Attributes:
        type: of MIL.
        dtype: of its first output.
        rank: most axes of an output.
        macs: multiply-accumulates.
        output: name of its first output.
    """

    type: str
    dtype: str
    rank: int
    macs: int
    output: str


def computed(path: Path) -> Iterator[Computed]:
    """Yield the operations of a package that are no constants, in order; of a pipeline those of its program.

    Raises:
        BundleError: it is no package, or damaged.
    """
    from cloformer_deploy.backends.coreml.interpreter import Package
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType, value_type

    try:
        with naming(path):
            package = Package.load(path)
            types = _types(package)
            for operation in package.block.operations:
                if operation.type == "const":
                    continue
                kinds = [kind for item in operation.outputs if isinstance(kind := value_type(item.type), TensorType)]
                dtype = kinds[0].dtype.name if kinds else ""
                rank = max((len(kind.shape) for kind in kinds), default=0)
                output = operation.outputs[0].name if operation.outputs else ""
                yield Computed(operation.type, dtype, rank, _macs(operation, types), output)
    except (ArithmeticError, LookupError) as error:
        raise BundleError(f"{path} is damaged: {error!r}", "export it again") from error


def _types(package: "Package") -> dict[str, "TensorType"]:
    """Return the types of a program's tensors by name."""
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType, value_type

    values = [*package.main.inputs, *(output for item in package.block.operations for output in item.outputs)]
    return {value.name: kind for value in values if isinstance(kind := value_type(value.type), TensorType)}


def _macs(operation: Any, types: Mapping[str, "TensorType"]) -> int:
    """Return the multiply-accumulates of an operation: outputs times the terms of the sum behind each."""

    def shape(argument: str) -> tuple[int, ...]:
        return types[operation.inputs[argument].arguments[0].name].shape

    def outputs() -> int:
        return types[operation.outputs[0].name].elements

    match operation.type:
        case "conv" | "linear":  # (out, in, rows, columns), (out, in)
            return outputs() * prod(shape("weight")[1:])
        case "matmul":  # one of the last two axes of x is summed over, transposed or not; the other is the output's
            return outputs() * prod(shape("x")[-2:]) // types[operation.outputs[0].name].shape[-2]
        case "einsum":  # nchw,nwhu->nchu, the one that Core ML has
            return outputs() * shape("values")[-1]
    return 0


def integers(package: "Package", shares: Mapping[str, float]) -> tuple[QuantizedTensor, ...]:
    """Return the tensors that `quantize` turns into integers, by their float names, and the compressed weights.

    Args:
        package: a package, whose weight files are read.
        shares: clipped share of each tensor's values, 0..1, by name.
    """
    reader = _Arguments(package)
    found = []
    for operation in package.block.operations:
        name = operation.outputs[0].name if operation.outputs else ""
        match operation.type:
            case "quantize":
                tensor, dtype = operation.inputs["input"].arguments[0].name, _dtype(operation.outputs[0].type)
                grid = reader.numbers(operation, "scale"), reader.numbers(operation, "zero_point")
                found.append(on_grid(tensor, dtype, *grid, constant=False, clipped=shares.get(tensor)))
            case "constexpr_affine_dequantize":
                grid = reader.numbers(operation, "scale"), reader.numbers(operation, "zero_point")
                found.append(on_grid(name, reader.dtype(operation, "quantized_data"), *grid, constant=True))
            case "constexpr_blockwise_shift_scale":
                grid = reader.numbers(operation, "scale"), reader.numbers(operation, "offset")
                found.append(on_grid(name, reader.dtype(operation, "data"), *grid, constant=True))
            case "constexpr_lut_to_dense":
                table = reader.numbers(operation, "lut")
                # Up to iOS 17 there is one table; later, tables (blocks..., values, vector).
                values = 0 if table is None else table.shape[-2] if table.ndim > 1 else table.size
                found.append(in_palette(name, table, values))
    return tuple(found)


class _Arguments:
    """Reads the constant arguments of operations; None where one is no constant, or cannot be decoded."""

    def __init__(self, package: "Package") -> None:
        from cloformer_deploy.backends.coreml.interpreter.constants import Decoder

        self._decoder = Decoder(package)
        operations = package.block.operations
        self._constants = {
            item.outputs[0].name: item.attributes["val"] for item in operations if item.type == "const" and item.outputs
        }

    def _value(self, operation: Any, name: str) -> Any:
        if name in operation.attributes:  # up to iOS 17
            return operation.attributes[name]
        bindings = operation.inputs[name].arguments if name in operation.inputs else ()
        if not bindings:
            return None
        binding = bindings[0]
        return binding.value if binding.WhichOneof("binding") == "value" else self._constants.get(binding.name)

    def numbers(self, operation: Any, name: str) -> NDArray[np.float64] | None:
        value = self._value(operation, name)
        try:
            return None if value is None else np.asarray(self._decoder.decode(value), np.float64)
        except (BundleError, ValueError):  # ValueError: of texts
            return None

    def dtype(self, operation: Any, name: str) -> str:
        value = self._value(operation, name)
        return "unknown" if value is None else _dtype(value.type)


def _dtype(proto: Any) -> str:
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType, value_type

    kind = value_type(proto)
    return kind.dtype.name if isinstance(kind, TensorType) else str(kind)
