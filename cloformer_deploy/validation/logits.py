"""Logits of the same images, from PyTorch and from an artifact."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import InputKind, Session
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import ToolError

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.networks.cloformer import CloFormer


def reference_logits(
    model: "CloFormer", pixels: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """PyTorch's logits (B, classes) of images (B, 3, H, W), RGB uint8."""
    return normalized_logits(model, preprocessing.normalize(pixels))


def normalized_logits(model: "CloFormer", images: NDArray[np.float32]) -> NDArray[np.float32]:
    """PyTorch's logits (B, classes) of normalized images (B, 3, H, W)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
    return logits


def artifact_logits(
    session: Session, pixels: NDArray[np.uint8], preprocessing: Preprocessing, kind: InputKind, num_classes: int
) -> NDArray[np.float32]:
    """An artifact's logits (B, num_classes) of images (B, 3, H, W), RGB uint8, for any B.

    A file of fixed batch size is run as often as needed; its last batch is filled up with the last image.

    Raises:
        ToolError: the runtime failed, or the file's output has another shape.
    """
    images: NDArray[Any] = pixels if kind == "image" else preprocessing.normalize(pixels)
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
    from cloformer_deploy.backends.coreml.interpreter import Program, compare_weights

    expected = {name: value.numpy() for name, value in lowered.state_dict().items() if value.is_floating_point()}
    return compare_weights(Program.load(path), expected)
