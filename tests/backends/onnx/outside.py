"""ONNX models of which one tensor is in another file, each in another of the places where a model has tensors."""

from collections.abc import Callable
from typing import Any

from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper

from tests.cli.command_line import small_model


def outside_tensor(location: str, name: str = "outside") -> TensorProto:
    """Return a tensor of three floats at the beginning of another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _sparse(location: str) -> SparseTensorProto:
    indices = helper.make_tensor("at", TensorProto.INT64, [3], [0, 1, 2])
    return SparseTensorProto(values=outside_tensor(location, "values"), indices=indices, dims=[9])


def _graph(location: str, name: str) -> GraphProto:
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])
    return helper.make_graph([], name, [], [value], [outside_tensor(location, name)])


def _constant(**attributes: Any) -> Any:
    return helper.make_node("Constant", [], ["unused"], **attributes)


def _initializer(model: ModelProto, location: str) -> None:
    model.graph.initializer.append(outside_tensor(location))


def _without_its_mark(model: ModelProto, location: str) -> None:
    tensor = outside_tensor(location)
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


def _without_a_location(model: ModelProto, location: str) -> None:
    tensor = outside_tensor(location)
    del tensor.external_data[:]
    model.graph.initializer.append(tensor)


def _sparse_initializer(model: ModelProto, location: str) -> None:
    model.graph.sparse_initializer.append(_sparse(location))


def _attribute(model: ModelProto, location: str) -> None:
    model.graph.node.append(_constant(value=outside_tensor(location)))


def _list_attribute(model: ModelProto, location: str) -> None:
    node = helper.make_node("Anything", [], ["unused"], domain="test", values=[outside_tensor(location)])
    model.graph.node.append(node)


def _sparse_attribute(model: ModelProto, location: str) -> None:
    model.graph.node.append(_constant(sparse_value=_sparse(location)))


def _subgraph(model: ModelProto, location: str) -> None:
    branches = {"then_branch": _graph(location, "a"), "else_branch": _graph(location, "b")}
    model.graph.node.append(helper.make_node("If", ["condition"], ["unused"], **branches))


def _nested_subgraph(model: ModelProto, location: str) -> None:
    inner = helper.make_node("If", ["condition"], ["inner"], then_branch=_graph(location, "a"))
    outer = helper.make_graph([inner], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["condition"], ["unused"], then_branch=outer))


def _function(model: ModelProto, location: str) -> None:
    node = helper.make_node("Constant", [], ["y"], value=outside_tensor(location))
    model.functions.append(helper.make_function("test", "Three", [], ["y"], [node], [helper.make_opsetid("", 20)]))


def _training(model: ModelProto, location: str) -> None:
    model.training_info.add().initialization.CopyFrom(_graph(location, "start"))


PLACES: dict[str, Callable[[ModelProto, str], None]] = {
    "initializer": _initializer,
    "initializer-without-its-mark": _without_its_mark,
    "initializer-without-a-location": _without_a_location,
    "sparse-initializer": _sparse_initializer,
    "attribute": _attribute,
    "list-attribute": _list_attribute,
    "sparse-attribute": _sparse_attribute,
    "subgraph": _subgraph,
    "nested-subgraph": _nested_subgraph,
    "function": _function,
    "training-info": _training,
}
"""Put a tensor that is in another file into a model."""

LOCATIONS = ("weights.bin", "../weights.bin", "/etc/passwd", "a/../../weights.bin", "link")
"""Beside the file, above it, absolute, above it by a detour, and a link beside it."""


def model_with(place: str, location: str) -> ModelProto:
    """Return a small model with the interface of an artifact and one tensor in another file."""
    model: ModelProto = small_model()
    PLACES[place](model, location)
    return model
