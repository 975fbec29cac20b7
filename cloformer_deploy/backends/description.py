"""Descriptions of files: their contents, and the findings of their runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a file; a dynamic axis of `shape` is given by its name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSummary:
    """The cost of a graph, read from the file.

    Attributes:
        transposes: operators that only move data.
        max_rank: most axes of any tensor.
        parameters: elements of the constant float tensors, quantized ones included.
        macs: multiply-accumulates of convolutions and matrix products in one run (a dynamic batch counts as 1);
            None where the file does not give the shapes.
    """

    transposes: int
    max_rank: int
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor whose values are scale * (integer - zero point), or entries of a palette.

    Attributes that the file does not give are None.

    Attributes:
        name: in the file.
        dtype: of the integers: int8, uint16; uint6 indexes a palette of 64 values.
        constant: True for integers stored in the file (weights, biases), False for computed ones.
        scale: smallest and largest scale.
        channels: number of scales: 1 for per-tensor; 0 with a palette.
        zero_point: where it is the same for all channels.
        low: smallest value that the integers can represent.
        high: largest.
        clipped: share of the values over the calibration set that lie outside the represented range; 0..1.
    """

    name: str
    dtype: str
    constant: bool
    scale: tuple[float, float] | None
    channels: int
    zero_point: int | None
    low: float | None
    high: float | None
    clipped: float | None


@dataclass(frozen=True)
class Description:
    """The contents of a file: interface, operators by name, cost, quantized tensors, its own metadata."""

    format: str
    precision: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: Mapping[str, int]
    graph: GraphSummary
    bytes: int
    metadata: Mapping[str, Any]
    quantized: tuple[QuantizedTensor, ...]


@dataclass(frozen=True)
class GraphKeys:
    """Names by which Model Explorer's adapters know the graph of a file.

    Attributes:
        graph: of the graph.
        nodes: key of the node that computes a tensor, by the tensor's name in the file, and by the name that the
            format's `TensorReader` gives it.
    """

    graph: str
    nodes: Mapping[str, str]


@dataclass(frozen=True)
class Section:
    """A finding of a format's runtime about a file, beside its description.

    Attributes:
        name: key in JSON.
        facts: JSON value of the key.
        figures: rows of the table of figures: label and value.
        findings: what is wrong or worth knowing, in sentences.
        passed: what was checked and found in order, in sentences.
    """

    name: str
    facts: Mapping[str, Any]
    figures: tuple[tuple[str, str], ...] = ()
    findings: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
