"""The Protocols that every file format follows, and what they exchange. Heavy imports wait for the calls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from cloformer_deploy.backends.description import Description, GraphKeys, Section
from cloformer_deploy.backends.device_opener import Opener
from cloformer_deploy.backends.target import Target
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import Output
from cloformer_deploy.tasks.base import Outputs, Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from cloformer_deploy.backends.options import Options
    from cloformer_deploy.data import Preprocessing
    from cloformer_deploy.quantization.preparation import Prepared

InputKind = Literal["tensor", "image"]
INPUT_NAME = "image"
CATEGORY_NAME = "category"
"""Name of the class map of segmenters with `--input image`, for formats whose apps do not make it: (batch, H, W)."""
METADATA_PREFIX = "cloformer_deploy."
"""Prefix of this tool's keys in a file's own metadata; `metadata.py` lists them."""
DETECTIONS = ("detection_boxes", "detection_scores", "detection_classes")
"""Outputs of sessions for files with suppression: boxes (n, 4) as in `tasks.boxes`, scores (n,), classes (n,)."""
Feed: TypeAlias = Mapping[str, "NDArray[Any]"]
"""Input arrays by name, in the network's layout (NCHW)."""


@dataclass(frozen=True)
class Suppression:
    """The non-maximum suppression at the end of a format's detectors with `--input image`.

    Attributes:
        outputs: names of the file's outputs, as apps read them.
        best_class: each cell is a detection of its class of the highest score; else of every class.
    """

    outputs: tuple[str, ...]
    best_class: bool


@dataclass(frozen=True)
class ExportSpec:
    """A lowered model and the interface that its files shall have.

    Attributes:
        model: takes the normalized image (B, 3, H, W), float32, and returns `outputs`: one tensor, or several in order.
        title: network and task in a few words.
        outputs: names and meaning of what the model returns.
        class_logits: name of the output that has one logit per class; None where there is none.
        pixel_logits: name of the output that has one logit per class and pixel; None where there is none.
        cells: names of the outputs that have the boxes and the scores of a detector's cells; None where there are none.
        scores: what turns these logits into scores.
        preprocessing: input size and normalization.
        input_kind: `tensor` takes the normalized image, `image` RGB 0..255 with the normalization in the graph.
        batch: batch size; None is dynamic.
        labels: names of the classes.
        metadata: goes into each file, without the prefix.
        options: the format's own options, an instance of `Backend.options`.
        quantized: for a quantized file: `model` is its model, and its plan says what becomes an integer.
        category_map: see `Backend.category_map`.
        suppression: see `Backend.suppression`.
    """

    model: "nn.Module"
    title: str
    outputs: tuple[Output, ...]
    class_logits: str | None
    pixel_logits: str | None
    cells: tuple[str, str] | None
    scores: Scores
    preprocessing: "Preprocessing"
    input_kind: InputKind
    batch: int | None
    labels: tuple[str, ...] | None
    metadata: Mapping[str, str]
    options: "Options"
    quantized: "Prepared | None" = None
    category_map: bool = False
    suppression: Suppression | None = None

    @property
    def has_category(self) -> bool:
        """Tell whether the files get a class map beside the logits of pixels."""
        return self.input_kind == "image" and self.pixel_logits is not None and self.category_map

    @property
    def has_detections(self) -> bool:
        """Tell whether the files end in non-maximum suppression, for apps that take one image at a time."""
        suppressed = self.cells is not None and self.suppression is not None
        return suppressed and self.input_kind == "image" and self.batch == 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape of the traced example, NCHW; a dynamic batch has 2, because 1 would be taken as fixed."""
        return (2 if self.batch is None else self.batch, *self.preprocessing.shape)


@dataclass(frozen=True)
class FileTensor:
    """A tensor that a file computes, in the file's own layout.

    Attributes:
        values: float32; integers are dequantized.
        on_grid: the values are integers times a scale, or come straight from such.
    """

    values: "NDArray[np.float32]"
    on_grid: bool


Tensors = Mapping[str, FileTensor]
"""Tensors by name, in the order of computation; only floats and dequantized integers."""


class Session(Protocol):
    """A loaded artifact, ready to run. Not for use from two threads at once."""

    batch: int | None
    """The batch size that the file is fixed to; None where it takes any."""

    def run(self, feed: Feed) -> Outputs:
        """Run one batch.

        Args:
            feed: arrays by input name. Images are (B, 3, H, W): normalized float32, or RGB uint8, as the file's input
                kind asks for. A session whose file has another layout transposes, inputs and outputs.

        Returns:
            Arrays by output name, float32, channels first. Of a file that ends in suppression: the cells before it
            under the task's names, and `DETECTIONS`.

        Raises:
            ToolError: the runtime failed.
        """
        ...


class TensorReader(Protocol):
    """A loaded file whose every tensor can be read. No operator is fused, and no delegate takes part."""

    batch: int | None
    """See `Session.batch`."""

    def run(self, feed: Feed) -> Tensors:
        """Return everything that the file computes for a feed as `Session.run` takes it, and its inputs.

        Raises:
            ToolError: the runtime failed.
        """
        ...


class Runtime(Protocol):
    """A program that executes artifacts of one format."""

    name: str
    title: str

    def missing(self) -> MissingPartError | None:
        """Return what this runtime lacks on this machine, or None if it can run."""
        ...

    def version(self) -> str:
        """Return the version, as far as it can change the computed numbers."""
        ...

    def open(self, path: Path, threads: int = 1) -> Session:
        """Load an artifact.

        Raises:
            MissingPartError: the runtime is not installed here.
            BundleError: the file is not one that the runtime can read.
            ToolError: the runtime failed on it.
        """
        ...


class Backend(Protocol):
    """A file format: how to write, describe, run and compare its files.

    Attributes:
        name: key in `backends.registry.BACKENDS`.
        suffix: ending of its files.
        extra: extra of this package that installs `packages`.
        packages: distributions that make the files.
        modules: Python modules of these.
        conversion_s: processor seconds that converting xxs takes, roughly: the longest conversions begin first.
        image_colors: color of images that files with `--input image` can take; see `data.preprocessing.Color`.
        input_layout: layout of image tensors in its files.
        targets: targets that a graph can be lowered for, by name; the first is the default.
        dynamic_batch: files can leave the batch size open.
        runtimes: what executes its files, the preferred one first.
        opener: how `bench` runs its files.
        category_map: segmenters with `--input image` have a class map, because apps do not make it by themselves.
        suppression: how detectors with `--input image` and batch 1 end; None where they end in cells.
        graph_keys: reads the names of a file's nodes for `--overlay`; None where Model Explorer cannot show the format.
    """

    name: str
    suffix: str
    extra: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    conversion_s: int
    image_colors: tuple[str, ...]
    input_layout: Literal["NCHW", "NHWC"]
    targets: Mapping[str, Target]
    dynamic_batch: bool
    runtimes: Sequence[Runtime]
    opener: Opener
    category_map: bool
    suppression: Suppression | None

    @property
    def graph_keys(self) -> Callable[[Path], GraphKeys] | None: ...  # noqa: D102

    @property
    def options(self) -> "type[Options]":
        """Schema of the format's own options (iOS version, opset)."""
        ...

    def check(
        self, options: "Options", target: Target, precisions: Sequence[str], input_kind: str, batch: int | None
    ) -> None:
        """Check that files with these options and interface can be made, before any work.

        Raises:
            RequestError: they cannot.
        """
        ...

    def convert(self, spec: ExportSpec, paths: Mapping[str, Path], progress: Progress) -> Iterator[str]:
        """Write one file for each precision of `paths`, and yield the precision once its file is there.

        A quantized spec has one precision, its own.

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

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """Load or run a file on its runtime, and return what that shows.

        Raises:
            CloformerDeployError, ValueError: it cannot be looked at, for example a foreign file.
        """
        ...

    def open_tensors(self, path: Path) -> TensorReader:
        """Load a file so that every tensor it computes can be read.

        Raises:
            MissingPartError: the runtime is not installed.
            BundleError: the file is damaged.
            ToolError: the runtime cannot run it.
        """
        ...

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """Return how the float weights in a file differ from the lowered model's; empty where that cannot be told.

        Outputs alone are a weak check: a few hundred zeroed bytes move them by less than float16 does.
        """
        ...
