"""Two witnesses of one lowered program: this package's interpreter of Core ML, and Apple's interpreter of Core AI.

Both files are made from the same model. Node by node, each is compared with PyTorch computing from the file's own
tensors: what either adds is the rounding of that node alone. More than rounding is a fault of one of the interpreters
or converters, and the table says of which.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.backends.target import FLOATS
from cloformer_deploy.blame.alignment import align
from cloformer_deploy.blame.node_errors import Errors, Walk, float_values
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization import graph
from cloformer_deploy.validation.bundle_work import reference_model

if TYPE_CHECKING:
    from torch import fx, nn

FORMATS = ("coreml", "coreai")
LEAST_DB: Mapping[str, Mapping[str, float]] = {
    "fp32": {"": 115.0},
    "fp16": {"matmul": 45.0, "linear": 45.0, "": 60.0},
}
"""Lowest SQNR of what a node adds that is still its rounding, by precision and kind of operator (empty: any other).

Apple's interpreter adds up products of matrices in float16; all else is rounded once.
"""


@dataclass(frozen=True)
class Witnessed:
    """A node in both interpreters.

    Attributes:
        node: its name in the traced model.
        layer: path of its module.
        kind: kind of its operator, as in `graph.KINDS`.
        coreml_db: SQNR of the error that it adds in this package's interpreter of Core ML, dB; None where no tensor
            of the file has its values.
        coreai_db: the same in Apple's interpreter.
    """

    node: str
    layer: str
    kind: str
    coreml_db: float | None
    coreai_db: float | None


@dataclass(frozen=True)
class CrossCheck:
    """Both interpreters compared on one pair of files.

    Attributes:
        precision: of the files.
        n: number of images.
        nodes: number of nodes whose tensors are known in both.
        worst: the node with the largest error of each kind of operator, by the lesser SQNR.
        faults: nodes that add more than rounding in one of them, up to the first that only one of them has: behind it
            all follows from its values.
    """

    precision: str
    n: int
    nodes: int
    worst: tuple[Witnessed, ...]
    faults: tuple[Witnessed, ...]


def cross_check(bundle: Bundle, pixels: NDArray[np.uint8], progress: Progress) -> tuple[CrossCheck, ...]:
    """Compare each pair of float files of a bundle for Core ML and Core AI.

    Args:
        bundle: verified.
        pixels: images at the input's size, RGB uint8 (n, 3, H, W).
        progress: receives each step.

    Raises:
        RequestError: there is no such pair of files of tensors with batch 1.
        MissingPartError: a package is missing.
        ToolError: an interpreter failed.
    """
    pairs = list(_pairs(bundle.manifest.artifacts))
    if not pairs:
        raise RequestError(
            "the bundle has no float files of one precision for both Core ML and Core AI, of tensors with batch 1",
            f"add them: export --format coreml --format coreai --output {bundle.root}",
        )
    reference, found = reference_model(bundle), []
    for files in pairs:
        progress.step(f"Comparing both interpreters, {files[0].precision}")
        found.append(_compared(bundle, files, reference, pixels, progress))
    return tuple(found)


def _pairs(artifacts: Sequence[Artifact]) -> Iterator[tuple[Artifact, Artifact]]:
    def of(name: str, precision: str) -> list[Artifact]:
        return [
            item
            for item in artifacts
            if (item.format, item.precision, item.input.kind, item.input.batch) == (name, precision, "tensor", 1)
        ]

    for precision in FLOATS:
        yield from zip(*(of(name, precision) for name in FORMATS), strict=False)


def _compared(
    bundle: Bundle,
    files: tuple[Artifact, Artifact],
    reference: "nn.Module",
    pixels: NDArray[np.uint8],
    progress: Progress,
) -> CrossCheck:
    preprocessing, first = bundle.manifest.preprocessing, files[0]
    traced = graph.trace(lower(reference, first.format, first.target), *preprocessing.shape)
    images = preprocessing.normalize(pixels)
    both = [_errors(item.format, bundle.path(item), traced, images, progress) for item in files]
    rows = list(_rows(traced, *both))
    known = [row for row in rows if None not in (row.coreml_db, row.coreai_db)]
    worst = {row.kind: row for row in sorted(known, key=_least, reverse=True)}
    limits = LEAST_DB[first.precision]
    faults = []
    for row in rows:
        if not _least(row) >= limits.get(row.kind, limits[""]):
            faults.append(row)
        if row not in known:
            break
    return CrossCheck(first.precision, len(pixels), len(known), tuple(worst.values()), tuple(faults))


def _errors(
    format_name: str, path: Path, traced: "fx.GraphModule", images: NDArray[np.float32], progress: Progress
) -> Errors:
    """Return the error that each node of a file adds."""
    reader, walk = BACKENDS[format_name].open_tensors(path), None
    for done in range(len(images)):
        image = images[done : done + 1]
        tensors = reader.run({INPUT_NAME: image})
        if walk is None:
            matches = align(traced, torch.from_numpy(image), tensors)
            inputs = {node.name for node in traced.graph.nodes if node.op == "placeholder"}
            walk = Walk(traced, {name: match for name, match in matches.items() if name not in inputs})
        walk.step(float_values(traced, torch.from_numpy(image)), tensors)
        progress.advance(done + 1, len(images))
    return {} if walk is None else walk.errors


def _rows(traced: "fx.GraphModule", ours: Errors, theirs: Errors) -> Iterator[Witnessed]:
    for node in traced.graph.nodes:
        if node.name in ours or node.name in theirs:
            figures = [errors[node.name].sqnr_db if node.name in errors else None for errors in (ours, theirs)]
            yield Witnessed(node.name, graph.path(node), graph.kind(node), *figures)


def _least(row: Witnessed) -> float:
    """Return the lesser of both SQNRs; one that is not known, or not a number, is the least of all."""
    return min(-math.inf if value is None or math.isnan(value) else value for value in (row.coreml_db, row.coreai_db))
