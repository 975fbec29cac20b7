"""Faults that stand before or behind the model: real conversions of a model with one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.latency import in_a_process, spec_of
from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.exporting.jobs import Source
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import task_of
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

Wrapper = Callable[[nn.Module], nn.Module]
Triple = tuple[float, float, float]


class MappedInput(nn.Module):
    """Maps each channel x of its input (B, 3, H, W) to scale * x + shift first."""

    def __init__(self, model: nn.Module, scale: Triple, shift: Triple) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("input_scale", torch.tensor(scale).reshape(1, 3, 1, 1))
        self.register_buffer("input_shift", torch.tensor(shift).reshape(1, 3, 1, 1))
        self.input_scale: Tensor
        self.input_shift: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.model(image * self.input_scale + self.input_shift)
        return logits


class NanAbove(nn.Module):
    """NaN for an image (B, 3, H, W) whose mean is above a limit: of a root, which adds next to nothing to others."""

    def __init__(self, model: nn.Module, limit: float) -> None:
        super().__init__()
        self.model = model
        self.limit = limit

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes)."""
        mean = image.mean(dim=(2, 3)).mean(dim=1, keepdim=True)
        logits: Tensor = self.model(image) + 1e-6 * torch.sqrt(self.limit - mean)
        return logits


def convert_wrapped(healthy: Bundle, artifact: Artifact, wrapper: Wrapper, path: Path) -> None:
    """Write a float file like an artifact, of the wrapped model, unless it is there already.

    Raises:
        ToolError: the converter failed.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        in_a_process(_convert, healthy.root, artifact, wrapper, path)


def _convert(root: Path, artifact: Artifact, wrapper: Wrapper, path: Path) -> None:
    bundle = Bundle.open(root)
    manifest = bundle.manifest
    model = lower(build_model(load_checkpoint(bundle.weights_path)), artifact.format, artifact.target)
    task = task_of(manifest)
    spec = replace(
        spec_of(artifact.format, wrapper(model).eval()),
        outputs=task.outputs,
        class_logits=task.class_logits,
        pixel_logits=task.pixel_logits,
        cells=task.cells,
        preprocessing=manifest.preprocessing,
        labels=manifest.labels,
        metadata=Source.of(manifest, bundle.weights_path).metadata(artifact.target),
    )
    staged = path.with_name(f"staged-{path.name}")
    list(BACKENDS[artifact.format].convert(spec, {artifact.precision: staged}, Silent()))
    staged.rename(path)
