"""The only module that touches Apple's packages for Core AI: conversion, the program inside an asset, and its runtime.

The packages are beta versions, pinned in the extra `coreai`. Whatever a newer one changes is mended here;
`tests/backends/coreai/test_api.py` tells what that is. Their native code prints, and a damaged file can crash it:
except for conversion, all of this is called in processes of its own (see `process.py`).
"""

import asyncio
import json
import math
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreai.linear import convolved
from cloformer_deploy.backends.coreai.program import CONSTANT, Operation, Program, Value

if TYPE_CHECKING:
    from torch import nn

MAIN = "main"
"""Name of the one function of our assets."""
PROGRAM_FILE = "main.mlirb"
FILES = frozenset({PROGRAM_FILE, "main.hash", "metadata.json"})
"""Files of an asset that nothing was compiled into."""
_FLOATS = {"f16": np.float16, "f32": np.float32}
_ROOT = "coreai."
_CALLED = re.compile(r"@(\w+?)(_composite)?_[a-z]{8}>")
"""A composite operation in the name of its graph, which ends in eight letters by chance."""


def convert(
    module: "nn.Module",
    example: tuple[Any, ...],
    names: tuple[Sequence[str], Sequence[str]],
    path: Path,
    description: str,
) -> None:
    """Convert a PyTorch module, and write it as an asset.

    Args:
        module: in evaluation mode.
        example: its arguments.
        names: of inputs and outputs, in the order in which the module takes and returns them.
        path: folder to write, which ends in .aimodel.
        description: of the model, in prose.
    """
    import torch

    with warnings.catch_warnings():
        # About torch's local version ("2.13.0+cpu" is taken to be newer than 2.13.0), and torch's about itself.
        warnings.simplefilter("ignore")
        import coreai_torch

        table = {**coreai_torch.get_decomp_table(), torch.ops.aten.linear.default: convolved}
        exported = torch.export.export(module, example).run_decompositions(table)
        # RELEASE leaves out the stack traces, which hold paths of this machine.
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
        converter.add_exported_program(exported, input_names=names[0], output_names=names[1], entrypoint_name=MAIN)
        program = converter.to_coreai()
    from coreai.runtime import AIModelAssetMetadata

    stored = AIModelAssetMetadata()
    stored.author, stored.model_description = "cloformer-deploy", description
    program.save_asset(path, stored)


def add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Write key-value pairs into an asset."""
    from coreai.authoring import AIModelAsset

    def add(stored: Any) -> None:
        for key, value in metadata.items():
            stored.set_custom(key, value)

    AIModelAsset.load(path).update_metadata(add)


def operator(name: str) -> Any:
    """Return an operator of `coreai_torch` that conversion knows: quantize, dequantize, lut_to_dense, and others."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from coreai_torch._compression import custom_layers  # noqa: F401 - defines them
    return getattr(torch.ops.coreai, name).default


def read(path: Path) -> Program:
    """Read the program of an asset.

    Raises:
        Exception: of any class, where the file is damaged; a damaged file may also end the process.
    """
    asset, program = _opened(path)
    graph = _function(program)
    operations, names = [], {argument: _value(argument, _name(attributes)) for argument, attributes in _inputs(graph)}
    for operation, outputs in _named(graph):
        inputs = tuple(names[operand].name for operand in operation.operands)
        names.update(zip(operation.results, outputs, strict=True))
        kind = _type(operation)
        constant = _constant(operation) if kind == CONSTANT else None
        operations.append(Operation(kind, inputs, outputs, constant))
    results = list(graph.outputs)
    custom = asset.metadata.creator_defined_metadata
    return Program(
        tuple(_value(argument, _name(attributes)) for argument, attributes in _inputs(graph)),
        tuple(_value(item, _name(attributes)) for item, attributes in zip(results, graph.res_attrs, strict=True)),
        tuple(names[item].name for item in results),
        tuple(operations),
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in custom.items()},
    )


class Executable:
    """A loaded asset, in Apple's interpreter or, on a Mac that has it, in Core AI itself.

    Args:
        path: of the asset.
        tensors: return every float tensor that is computed, under the names that `read` gives them.
    """

    def __init__(self, path: Path, *, tensors: bool) -> None:
        from coreai.runtime import _use_os_coreai

        self._runner = asyncio.Runner()
        asset, program = _opened(path)
        if not _use_os_coreai:
            with _context(program):
                if tensors:
                    _return_everything(_function(program))
                _concatenate_padding(_function(program))
        self._function = self._runner.run(_loaded(asset, program))

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one batch: arrays by name, in and out."""
        from coreai.runtime import NDArray as Array

        async def call() -> Any:
            return await self._function({name: Array(np.ascontiguousarray(item)) for name, item in feed.items()})

        return {name: np.array(item.numpy()) for name, item in self._runner.run(call()).items()}


async def _loaded(asset: Any, program: Any) -> Any:
    """Return the function of an asset; of a program that was changed since, unless the system's Core AI runs it.

    What the package compiles into a temporary folder is in memory afterwards, and the folder is gone.
    """
    from coreai.runtime import _use_os_coreai

    with tempfile.TemporaryDirectory() as folder:
        if not _use_os_coreai:
            asset = program.save_asset(Path(folder, "changed.aimodel"))
        async with asset.executable() as model:
            return model.load_function(MAIN)


def _opened(path: Path) -> tuple[Any, Any]:
    from coreai.authoring import AIModelAsset

    asset = AIModelAsset.load(path)
    return asset, asset.program


def _function(program: Any) -> Any:
    """Return the graph of `MAIN`."""
    for item in program._module._mlir_module.body.operations:
        if item.name == f"{_ROOT}graph" and item.sym_name.value == MAIN:
            return item
    raise ValueError(f"it has no function {MAIN!r}")


@contextmanager
def _context(program: Any) -> Iterator[None]:
    from coreai._compiler.ir import Location

    with program._module._mlir_module.context, Location.unknown():
        yield


def _inputs(graph: Any) -> list[tuple[Any, Any]]:
    return list(zip(graph.arguments, graph.arg_attrs, strict=True))


def _named(graph: Any) -> Iterator[tuple[Any, tuple[Value, ...]]]:
    """Yield each operation of a graph but the last, which returns, with its named results."""
    numbers = Counter[str]()
    for operation in list(graph.entry_block.operations)[:-1]:
        kind = _type(operation)
        name = f"{kind}_{numbers[kind]}"
        numbers[kind] += 1
        results = list(operation.results)
        names = [name] if len(results) == 1 else [f"{name}_{index}" for index in range(len(results))]
        yield operation, tuple(map(_value, results, names))


def _type(operation: Any) -> str:
    """Return the type of an operation; of a call, the name of the composite that is called, without its suffix."""
    name = str(operation.name)
    if name == f"{_ROOT}invoke":
        called = _CALLED.search(str(operation.attributes["callee"]))
        return "invoke" if called is None else called[1]
    return name.removeprefix(_ROOT).removeprefix("decomposable.").removeprefix("broadcasting_")


def _name(attributes: Any) -> str:
    return str(attributes["coreai.name"].value)


def _value(value: Any, name: str) -> Value:
    return Value(name, tuple(value.type.shape), _dtype(str(value.type.element_type)))


def _dtype(text: str) -> str:
    """Return the plain name of an element type: f32 is float32, si8 and i8 are int8, ui6 is uint6, i1 is bool."""
    if text == "i1":
        return "bool"
    for short, plain in (("si", "int"), ("ui", "uint"), ("f", "float"), ("i", "int")):
        if text.startswith(short) and text[len(short) :].isdecimal():
            return plain + text[len(short) :]
    return text


def _constant(operation: Any) -> NDArray[Any]:
    """Return the value of a constant; where numpy has no such type, its bytes."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

    made = np.array(operation.attributes["value"])
    if made.dtype != np.object_:
        return made
    kind = operation.results[0].type
    content = np.zeros(math.ceil(math.prod(kind.shape) * kind.element_type.width / 8), np.uint8)
    copy_constant_value_to_array(constant_op=operation, destination=content)
    name = _dtype(str(kind.element_type))
    try:
        return content.view(np.dtype(name)).reshape(tuple(kind.shape))
    except TypeError:
        return content


def _concatenate_padding(graph: Any) -> None:
    """Pad with constants by concatenation: the same numbers, for which the interpreter takes a tenth of the time."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import InsertionPoint

    for operation in list(graph.entry_block.operations):
        if operation.name != f"{_ROOT}pad" or "constant" not in str(operation.attributes["padding_mode"]):
            continue
        padded, amounts, fill = operation.operands
        dtype = _FLOATS.get(str(padded.type.element_type))
        if dtype is None or not all(getattr(item.owner, "name", "") == _ROOT + CONSTANT for item in (amounts, fill)):
            continue
        value = _constant(fill.owner).item()
        with InsertionPoint(operation):
            for axis, ends in enumerate(_constant(amounts.owner).reshape(-1, 2).tolist()):
                blocks = [
                    coreai.constant(np.full(_with(padded.type.shape, axis, size), value, dtype)) if size else None
                    for size in ends
                ]
                parts = [item for item in (blocks[0], padded, blocks[1]) if item is not None]
                if len(parts) > 1:
                    padded = coreai.concat(coreai.constant(np.array(axis, np.int32)), parts)
        operation.results[0].replace_all_uses_with(padded)
        operation.operation.erase()


def _with(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [*shape[:axis], size, *shape[axis + 1 :]]


def _return_everything(graph: Any) -> None:
    """Make outputs of all computed float tensors."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import DictAttr, FunctionType, InsertionPoint, StringAttr, TypeAttr

    last = list(graph.entry_block.operations)[-1]
    found = [
        (result, value.name)
        for operation, values in _named(graph)
        if _type(operation) != CONSTANT
        for result, value in zip(operation.results, values, strict=True)
        if str(result.type.element_type) in _FLOATS
    ]
    with InsertionPoint(last):
        coreai.output([*last.operands, *(result for result, _ in found)])
    last.operation.erase()
    kind = graph.type
    types = [*kind.results, *(result.type for result, _ in found)]
    attributes = [*graph.res_attrs, *(DictAttr.get({"coreai.name": StringAttr.get(name)}) for _, name in found)]
    graph.attributes["function_type"] = TypeAttr.get(FunctionType.get(kind.inputs, types))
    graph.res_attrs = attributes
