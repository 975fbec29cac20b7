"""The weights stored in an exported file, of any format, as arrays that can be written to and saved."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stored:
    """The weights of one operator, in the file's layout and type, floats or integers, and its bias, if it has one.

    Integers are without their scales.
    """

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None


Opened = tuple[list[Stored], Callable[[], None]]
"""The stored arrays, and a function that writes the file with their present content."""


def open_onnx(path: Path) -> Opened:
    """Convolutions and matrix products of an ONNX file; constants may be behind a DequantizeLinear or a Cast."""
    import onnx

    model = onnx.load(path)
    constants = {item.name: onnx.numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    before = {name: values.copy() for name, values in constants.items()}
    makers = {name: node for node in model.graph.node for name in node.output}

    def constant(name: str) -> str:
        while name not in constants and name in makers and makers[name].op_type in ("DequantizeLinear", "Cast"):
            name = makers[name].input[0]
        return name

    stored = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and (name := constant(node.input[1])) in constants:
            bias = constants.get(constant(node.input[2])) if len(node.input) > 2 else None
            stored.append(Stored(name, constants[name], bias))

    def save() -> None:
        for item in model.graph.initializer:
            if not np.array_equal(constants[item.name], before[item.name]):
                item.CopyFrom(onnx.numpy_helper.from_array(constants[item.name], item.name))
        onnx.save(model, path)

    return stored, save


def open_tflite(path: Path) -> Opened:
    """Convolutions and matrix products of a TFLite file; the arrays are views of its bytes."""
    from ai_edge_litert import schema_py_generated as schema

    content = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(operator.OpcodeIndex()) for operator in operators]
    kinds = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    builtin = schema.BuiltinOperator
    widened = {
        operator.Outputs(0): operator.Inputs(0)
        for operator, kind in zip(operators, kinds, strict=True)
        if kind == builtin.DEQUANTIZE
    }
    dtypes = {
        schema.TensorType.FLOAT32: "<f4",
        schema.TensorType.FLOAT16: "<f2",
        schema.TensorType.INT8: "i1",
        schema.TensorType.INT32: "<i4",
    }

    def constant(index: int) -> NDArray[Any] | None:
        tensor = graph.Tensors(widened.get(index, index))
        buffer = model.Buffers(tensor.Buffer())
        if buffer.Offset() > 1:  # behind the flatbuffer proper, where the quantizer puts it
            values = np.frombuffer(memoryview(content)[buffer.Offset() : buffer.Offset() + buffer.Size()], np.uint8)
        elif buffer.DataLength():
            values = buffer.DataAsNumpy()
        else:
            return None
        made: NDArray[Any] = values.view(dtypes[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
        return made

    stored = []
    for operator, kind in zip(operators, kinds, strict=True):
        if kind not in (builtin.CONV_2D, builtin.DEPTHWISE_CONV_2D, builtin.FULLY_CONNECTED):
            continue
        weight = constant(operator.Inputs(1))
        if weight is not None:
            has_bias = operator.InputsLength() > 2 and operator.Inputs(2) >= 0
            name = graph.Tensors(operator.Inputs(1)).Name().decode()
            stored.append(Stored(name, weight, constant(operator.Inputs(2)) if has_bias else None))
    return stored, lambda: _write(path, content)


def open_coreml(path: Path) -> Opened:
    """Convolutions and linear operations of a Core ML package; the arrays are views of its weight file."""
    from cloformer_deploy.backends.coreml.interpreter import Package
    from cloformer_deploy.backends.coreml.interpreter.constants import WeightFile
    from cloformer_deploy.backends.coreml.interpreter.types import TensorType, value_type

    package = Package.load(path)
    makers = {output.name: operation for operation in package.block.operations for output in operation.outputs}
    name = "@model_path/weights/weight.bin"
    content = package.read_weights(name)
    weights = WeightFile(name, content)

    def constant(operation: Any, argument: str) -> NDArray[Any] | None:
        if argument not in operation.inputs:
            return None
        maker = makers[operation.inputs[argument].arguments[0].name]
        held = next((each for each in ("val", "quantized_data", "data") if each in maker.attributes), None)
        if held is None:
            return constant(maker, "data") if "data" in maker.inputs else None
        value = maker.attributes[held]
        kind = value_type(value.type)
        if value.WhichOneof("value") != "blobFileValue" or not isinstance(kind, TensorType):
            return None
        return weights.decode(value.blobFileValue.offset, kind)

    stored = []
    for operation in package.block.operations:
        weight = constant(operation, "weight") if operation.type in ("conv", "linear") else None
        if weight is not None:
            stored.append(Stored(operation.inputs["weight"].arguments[0].name, weight, constant(operation, "bias")))
    return stored, lambda: _write(package.folder / name.removeprefix("@model_path/"), content)


def open_coreai(path: Path) -> Opened:
    """Convolutions and matrix products of a Core AI asset; what is changed is written over its bytes in the program."""
    from cloformer_deploy.backends.coreai import process
    from cloformer_deploy.backends.coreai.api import PROGRAM_FILE
    from cloformer_deploy.backends.coreai.constants import stored as stored_constants

    program = process.read(path)
    makers = {output.name: item for item in program.operations for output in item.outputs}
    before = stored_constants(program)
    now = {name: values.copy() for name, values in before.items()}

    def constant(name: str) -> NDArray[Any] | None:
        while name in makers and makers[name].type in ("transpose", "blockwise_shift_scale"):
            name = makers[name].inputs[0]
        return now.get(name)

    biases = {item.inputs[0]: constant(item.inputs[1]) for item in program.operations if item.type == "add"}
    stored = []
    for item in program.operations:
        weight = constant(item.inputs[1]) if item.type in ("conv2d", "batch_matmul") else None
        if weight is not None:
            bias = biases.get(item.outputs[0].name)
            stored.append(Stored(item.outputs[0].name, weight, None if bias is None else bias.reshape(-1)))

    def save() -> None:
        content = bytearray(path.joinpath(PROGRAM_FILE).read_bytes())
        for name, values in now.items():
            if values.tobytes() == before[name].tobytes():
                continue
            old = before[name].tobytes()
            if content.count(old) != 1:
                raise ValueError(f"the values of {name} are not in one place of the file")
            place = content.index(old)
            content[place : place + len(old)] = values.tobytes()
        _write(path / PROGRAM_FILE, content)

    return stored, save


def _write(path: Path, content: bytearray) -> None:
    path.write_bytes(content)


OPENERS: dict[str, Callable[[Path], Opened]] = {
    "onnx": open_onnx,
    "tflite": open_tflite,
    "coreml": open_coreml,
    "coreai": open_coreai,
}
