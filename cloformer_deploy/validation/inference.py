"""Outputs for the same images, from PyTorch and from an artifact."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import DETECTIONS, INPUT_NAME, InputKind, Session
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import ToolError
from cloformer_deploy.tasks import Output, Outputs
from cloformer_deploy.tasks.distances import named_outputs

if TYPE_CHECKING:
    from torch import nn


def reference_outputs(model: "nn.Module", images: NDArray[np.float32], specs: Sequence[Output]) -> Outputs:
    """Return PyTorch's outputs for normalized images (B, 3, H, W)."""
    import torch

    with torch.inference_mode():
        return named_outputs(model(torch.from_numpy(images)), specs)


def artifact_outputs(
    session: Session,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    kind: InputKind,
    expected: Outputs | None = None,
) -> Outputs:
    """Return an artifact's outputs for images (B, 3, H, W), RGB uint8, for any B; all but `DETECTIONS`.

    A file of fixed batch size is run as often as needed; its last batch is filled up with the last image.

    Args:
        session: the loaded artifact.
        pixels: the images.
        preprocessing: the model's.
        kind: the artifact's input kind.
        expected: PyTorch's outputs of the same images, whose names and shapes are checked.

    Raises:
        ToolError: the runtime failed, or the file lacks an output or has one of another shape.
    """
    images: NDArray[Any] = pixels if kind == "image" else preprocessing.normalize(pixels)
    count = len(images)
    batch = session.batch or count
    padding = -count % batch
    if padding:
        images = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)])
    runs = [session.run({INPUT_NAME: images[start : start + batch]}) for start in range(0, len(images), batch)]
    for run in runs:
        _check_shapes(run, batch, expected)
    names = [name for name in runs[0] if name not in DETECTIONS]  # of these each image has another number
    return {name: np.concatenate([run[name] for run in runs])[:count] for name in names}


def _check_shapes(found: Outputs, batch: int, expected: Outputs | None) -> None:
    wanted: Mapping[str, NDArray[Any]] = expected if expected is not None else found
    for name, values in wanted.items():
        if name not in found:
            raise ToolError(f"it has no output {name!r}, only {', '.join(found)}", "export it again")
        shape = (batch, *values.shape[1:])
        if found[name].shape != shape:
            raise ToolError(
                f"its output {name} has shape {found[name].shape}, not {shape}",
                "it is of another model: export it again",
            )


def rows(outputs: Outputs, indices: Sequence[int]) -> Outputs:
    """Return the outputs of some images of a batch."""
    return {name: values[list(indices)] for name, values in outputs.items()}


def use_one_thread() -> None:
    """Have PyTorch compute on one thread: with more, the last digits depend on their number."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Give PyTorch back the number of threads that it had, which `use_one_thread` changes."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
