"""What every format has in common: the graph it is given and the Protocol it follows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cloformer_deploy.errors import MissingPartError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from cloformer_deploy.data import Preprocessing
    from cloformer_deploy.quantization.preparation import Prepared

InputKind = Literal["tensor", "image"]
INPUT_NAME, OUTPUT_NAME = "image", "logits"
METADATA_PREFIX = "cloformer_deploy."
"""Keys of this tool in a file's own metadata start with it; `metadata.py` lists them."""


@dataclass(frozen=True)
class Graph:
    """A lowered model and the interface its files shall have.

    `model` takes the normalized image (B, 3, H, W), float32, and gives logits (B, classes). `batch` None
    means dynamic. `metadata` goes into each file (without the prefix). `ios` is Core ML's minimum deployment target.
    """

    model: "nn.Module"
    preprocessing: "Preprocessing"
    input_kind: InputKind
    batch: int | None
    labels: tuple[str, ...] | None
    metadata: Mapping[str, str]
    ios: int
    quantized: "Prepared | None" = None
    """Of a file with integers: `model` is its model, and `plan` says which."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The example's shape, NCHW; a dynamic batch is traced with 2, for 1 would be taken as fixed."""
        return (2 if self.batch is None else self.batch, 3, self.preprocessing.height, self.preprocessing.width)


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a file; a dynamic axis of `shape` is its name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSummary:
    """What a graph costs, read off the file.

    Attributes:
        transposes: operators that move data and compute nothing.
        max_rank: axes of the tensor that has the most.
        parameters: numbers in float tensors that are constant, quantized ones included.
        macs: multiply-accumulates of convolutions and matrix products in one run (a dynamic batch counts as 1);
            None where the file does not say the shapes.
    """

    transposes: int
    max_rank: int
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor whose values are scale * (integer - zero point), or are looked up in a palette.

    What a file does not tell is None.

    Attributes:
        name: in the file.
        dtype: of the integers: int8, uint16; uint6 indexes a palette of 64 values.
        constant: whether the integers are in the file (weights, biases), or computed.
        scale: the smallest and the largest.
        channels: how many scales there are: 1 for the whole tensor; 0 with a palette.
        zero_point: if it is the same for all channels.
        low: the smallest value that the integers can stand for.
        high: the largest.
        clipped: the share of the values, over the calibration set, that were beyond what is kept; 0..1.
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
    """What a file says of itself: interface, operators by name, the graph's figures, integers, its own metadata."""

    format: str
    precision: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: Mapping[str, int]
    graph: GraphSummary
    bytes: int
    metadata: Mapping[str, Any]
    quantized: tuple[QuantizedTensor, ...]


class Format(Protocol):
    """A file format: how to write it and how to describe a file of it. Heavy imports wait for the call."""

    name: str
    suffix: str
    extra: str
    """The extra of this package that brings `packages`, the ones that make the file."""
    packages: tuple[str, ...]
    targets: tuple[str, ...]
    """What the graph can be lowered for; the first is the default."""
    dynamic_batch: bool

    def convert(self, graph: Graph, outputs: Mapping[str, Path], note: Callable[[str], None]) -> Iterator[str]:
        """Write one file for each precision of `outputs`, and yield the precision once its file is there.

        A graph that is quantized has one precision, and only its own.

        `note` is told what the user should know (a step that fell back).

        Raises:
            ToolError: the converter failed.
        """
        ...

    def describe(self, path: Path) -> Description:
        """Read a file's interface, operators and metadata, without running it.

        Raises:
            BundleError: the file is damaged or of another format.
            MissingPartError: the package that reads it is not installed.
        """
        ...


@dataclass(frozen=True)
class FileTensor:
    """What a tensor of a file holds, in the file's own layout.

    Attributes:
        values: float32; integers are dequantized.
        on_grid: they are integers, or come straight from such.
    """

    values: "NDArray[np.float32]"
    on_grid: bool


Tensors = Mapping[str, FileTensor]
"""By name, in the order of computation; only those that are floats, or stand for such."""


class TensorReader(Protocol):
    """A loaded file."""

    batch: int | None
    """As in `runtimes.Session`."""

    def run(self, images: "NDArray[Any]") -> Tensors:
        """Everything that the file computes for images as `runtimes.Session.run` takes them, and its input.

        Raises:
            ToolError: the runtime failed.
        """
        ...


class Session(Protocol):
    """A loaded artifact, ready to run. Not for use from two threads at once."""

    batch: int | None
    """The batch size the file is fixed to; None where it takes any."""

    def run(self, images: "NDArray[Any]") -> "NDArray[np.float32]":
        """Logits (B, classes) of a batch (B, 3, H, W).

        `images` is what the file's input kind asks for: normalized float32, or RGB uint8. It is always
        NCHW here; a session whose file wants another layout transposes.

        Raises:
            ToolError: the runtime failed.
        """
        ...


class Runtime(Protocol):
    """Something that executes artifacts of one format. Heavy imports wait for the call."""

    name: str
    title: str
    format: str

    def missing(self) -> MissingPartError | None:
        """What this runtime lacks on this machine, or None if it can run."""
        ...

    def version(self) -> str:
        """What it is, as far as that can change the numbers it gives."""
        ...

    def open(self, path: Path, threads: int = 1) -> Session:
        """Load an artifact.

        Raises:
            MissingPartError: the runtime is not installed here.
            BundleError: the file is not one the runtime can read.
            ToolError: the runtime failed on it.
        """
        ...


def package_missing(*modules: str, extra: str) -> MissingPartError | None:
    """The error that `packages.require` raises, as a value."""
    from cloformer_deploy.system.packages import require

    try:
        require(*modules, extra=extra)
    except MissingPartError as error:
        return error
    return None
