"""Logits of the same pictures, from PyTorch and from an artefact."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import ToolError
from cloformer_deploy.formats import InputKind
from cloformer_deploy.runtimes import Session

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.architecture import CloFormer


def reference_logits(
    model: "CloFormer", pixels: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """PyTorch's logits (B, classes) of pictures (B, 3, H, W), RGB uint8."""
    return normalised_logits(model, preprocessing.normalise(pixels))


def normalised_logits(model: "CloFormer", images: NDArray[np.float32]) -> NDArray[np.float32]:
    """PyTorch's logits (B, classes) of normalised images (B, 3, H, W)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
    return logits


def artifact_logits(
    session: Session, pixels: NDArray[np.uint8], preprocessing: Preprocessing, kind: InputKind, num_classes: int
) -> NDArray[np.float32]:
    """An artefact's logits (B, num_classes) of pictures (B, 3, H, W), RGB uint8, for any B.

    A file of fixed batch size is run as often as needed; its last batch is filled up with the last picture.

    Raises:
        ToolError: the runtime failed, or the file's output has another shape.
    """
    images: NDArray[Any] = pixels if kind == "image" else preprocessing.normalise(pixels)
    count = len(images)
    batch = session.batch or count
    padding = -count % batch
    if padding:
        images = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)])
    runs = [session.run(images[start : start + batch]) for start in range(0, len(images), batch)]
    if any(logits.shape != (batch, num_classes) for logits in runs):
        raise ToolError(
            f"it gives logits of shape {runs[0].shape}, not {(batch, num_classes)}",
            "it is of another model: export it again",
        )
    return np.concatenate(runs)[:count]


def weight_failures(path: Path, format_name: str, lowered: "nn.Module") -> list[str]:
    """How the weights inside a Core ML file differ from the lowered model's; nothing for other formats.

    Logits alone are a weak check: a few hundred zeroed bytes move them by less than float16 does.
    """
    if format_name != "coreml":
        return []
    from cloformer_deploy.runtimes.coreml_interpreter import Program, compare_weights

    expected = {name: value.numpy() for name, value in lowered.state_dict().items() if value.is_floating_point()}
    return compare_weights(Program.load(path), expected)
