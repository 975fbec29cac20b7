"""Inconsistent programs: they are rejected when they are loaded, or fail with the name of the operation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloformer_deploy.backends.coreml.interpreter import Program
from cloformer_deploy.errors import ToolError
from tests.backends.coreml.interpreter.coreml_programs import assert_rejected, build, edit, operations

pytestmark = pytest.mark.integration


def set_weight(spec: Any, field: str, value: Any) -> None:
    """Change the position or the declared type of the convolution's weight."""
    (weight,) = (each for each in operations(spec) if each.outputs[0].name == "conv_weight_0")
    if field == "offset":
        weight.attributes["val"].blobFileValue.offset = value
    else:
        for kind in (weight.attributes["val"].type, weight.outputs[0].type):
            if field == "size":
                kind.tensorType.dimensions[0].constant.size = value
            elif field == "type":
                kind.tensorType.dataType = value
            else:
                kind.tensorType.rank = value


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("offset", 65, "cannot have an entry"),
        ("offset", 0, "cannot have an entry"),
        ("offset", 2**40, "cannot have an entry"),
        ("offset", 128, "has no entry"),
        ("size", 5, "has 192 bytes of data in the entry at byte 64, expected 240"),
        ("size", 2**62, "more than"),
        ("type", 10, "data type 2"),
        ("type", 99, "unknown data type number 99"),
        ("rank", 3, "rank 3"),
    ],
)
def test_constant_that_does_not_match_the_weight_file(package: Path, field: str, value: int, match: str) -> None:
    assert_rejected(edit(package, lambda spec: set_weight(spec, field, value)), match)


def move_last_operation_first(spec: Any) -> None:
    last = type(operations(spec)[-1])()
    last.CopyFrom(operations(spec)[-1])
    del operations(spec)[-1]
    operations(spec).insert(0, last)


def operation(spec: Any, kind: str) -> Any:
    return next(each for each in operations(spec) if each.type == kind)


def constant(spec: Any, name: str) -> Any:
    """Return the value of the constant of that name."""
    return next(each for each in operations(spec) if each.outputs[0].name == name).attributes["val"]


def declare_int16_with_a_larger_value(spec: Any) -> None:
    value = constant(spec, "conv_groups_0")
    value.type.tensorType.dataType = 22
    value.immediateValue.tensor.ints.values[0] = 2**15


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (move_last_operation_first, "'out' reads .*, which no earlier operation defines"),
        (lambda spec: operation(spec, "tanh").inputs["x"].arguments.pop(), "input x, which has 0 values"),
        (lambda spec: operation(spec, "tanh").inputs.pop("x"), "lacks the required input x"),
        (lambda spec: operation(spec, "tanh").inputs["more"].arguments.add(name="x"), "unknown input 'more'"),
        (lambda spec: operation(spec, "tanh").blocks.add(), "nested blocks"),
        (lambda spec: operation(spec, "add").inputs["y"].arguments.add(name="x"), "has 2 values"),
        (
            lambda spec: setattr(operation(spec, "conv").inputs["groups"].arguments[0], "name", "x"),
            "must be a constant",
        ),
        (
            lambda spec: setattr(operation(spec, "conv").inputs["groups"].arguments[0], "name", "conv_strides_0"),
            "has 2 values, expected 1",
        ),
        (
            lambda spec: setattr(operation(spec, "conv").inputs["groups"].arguments[0], "name", "conv_pad_type_0"),
            "not int",
        ),
        (
            lambda spec: setattr(operation(spec, "conv").inputs["strides"].arguments[0], "name", "conv_weight_0"),
            "not int",
        ),
        (
            lambda spec: setattr(operation(spec, "conv").inputs["bias"].arguments.add(), "name", "conv_pad_type_0"),
            "not a tensor",
        ),
        (lambda spec: setattr(operation(spec, "tanh").outputs[0], "name", "conv"), "defines 'conv' twice"),
        (
            lambda spec: setattr(spec.description.output[0], "name", "other"),
            "does not compute the model's output 'other'",
        ),
        (
            lambda spec: setattr(spec.description.input[0], "name", "other"),
            "the model's input 'other' .* has no such input",
        ),
        (lambda spec: spec.description.input.pop(), "the model has 0 inputs, the program has 1"),
        (lambda spec: spec.mlProgram.functions["main"].block_specializations.clear(), "no block"),
        (lambda spec: spec.mlProgram.functions.clear(), "no function 'main'"),
        (
            lambda spec: operation(spec, "const").attributes["val"].immediateValue.tensor.ints.values.append(1),
            "constant of type",
        ),
        (lambda spec: operation(spec, "const").attributes.pop("val"), "a value has no type"),
        (lambda spec: constant(spec, "conv_groups_0").immediateValue.tensor.ints.values.append(1), "has 2 values"),
        (lambda spec: constant(spec, "conv_groups_0").ClearField("immediateValue"), "has no value"),
        (
            lambda spec: setattr(constant(spec, "conv_groups_0").immediateValue.tensor.bytes, "values", b"12345"),
            "has 5 bytes",
        ),
        (
            lambda spec: constant(spec, "conv_groups_0").immediateValue.tensor.floats.SetInParent(),
            "values in the field 'floats', expected 'ints'",
        ),
        (
            lambda spec: setattr(constant(spec, "conv_groups_0").type.tensorType, "dataType", 11),
            "values in the field 'ints', expected 'floats'",
        ),
        (
            lambda spec: constant(spec, "conv_strides_0").type.tensorType.dimensions[0].unknown.SetInParent(),
            "whose size is not fixed",
        ),
        (declare_int16_with_a_larger_value, r"int16\[\] has values outside the range of that type"),
        (lambda spec: operation(spec, "const").outputs.add(), "has 2 outputs, expected 1"),
        (
            lambda spec: setattr(operation(spec, "const").outputs[0].type.tensorType, "dataType", 23),
            "is declared as int32.*, but its value is",
        ),
        (
            lambda spec: spec.description.output[0].type.sequenceType.SetInParent(),
            "'out' has the unsupported kind 'sequenceType'",
        ),
        (
            lambda spec: spec.mlProgram.functions["main"].inputs[0].type.tensorType.dimensions[2].unknown.SetInParent(),
            "not a tensor of a fixed size",
        ),
        (
            lambda spec: operation(spec, "tanh").outputs[0].type.tensorType.dimensions[0].unknown.SetInParent(),
            "fixed size",
        ),
    ],
)
def test_inconsistent_program(package: Path, change: Callable[[Any], object], match: str) -> None:
    assert_rejected(edit(package, lambda spec: (change(spec), None)[1]), match)


def test_operation_with_an_additional_output(package: Path) -> None:
    def change(spec: Any) -> None:
        tanh = operation(spec, "tanh")
        tanh.outputs.add().CopyFrom(tanh.outputs[0])
        tanh.outputs[1].name = "more"

    with pytest.raises(ToolError, match="declared with 2 outputs, but computed 1"):
        Program.load(edit(package, change)).run({"x": np.zeros((1, 4, 6, 5), np.float32)})


def test_look_up_table_with_too_few_indices(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_lut_to_dense(
            indices=np.zeros(4, np.uint8), lut=np.ones(16, np.float32), shape=np.array([8], np.uint32)
        )
        return mb.mul(x=x, y=weight)

    def change(spec: Any) -> None:
        operation(spec, "constexpr_lut_to_dense").attributes["shape"].immediateValue.tensor.bytes.values = b"\x09\0\0\0"

    package = build(tmp_path / "lut.mlpackage", body, [(8,)], ios=16)
    assert_rejected(edit(package, change), "constexpr_lut_to_dense .* cannot be computed")


@pytest.mark.parametrize("kind", ["scale", "vector"])
def test_blocks_that_do_not_divide_the_weights(tmp_path: Path, kind: str) -> None:
    def body(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_blockwise_shift_scale(
            data=np.ones((4, 6), np.int8), scale=np.ones((4, 3), np.float32), name="weight"
        )
        return mb.mul(x=x, y=weight)

    def change(spec: Any) -> None:
        scale = operation(spec, "constexpr_blockwise_shift_scale").inputs["scale"].arguments[0].value
        sizes = scale.type.tensorType.dimensions
        sizes[0].constant.size, sizes[1].constant.size = (3, 4) if kind == "scale" else (12, 1)

    package = build(tmp_path / "blocks.mlpackage", body, [(4, 6)], ios=18)
    assert_rejected(edit(package, change), "which is not a multiple of its")
