"""Specs of files, as a test wants to have them converted."""

from dataclasses import replace
from typing import Any

from torch import nn

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.tasks import TASKS


def spec(
    format_name: str,
    model: nn.Module,
    preprocessing: Preprocessing,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> ExportSpec:
    """Return the spec of a classifier that takes one normalized image, without labels, changed as asked.

    Args:
        format_name: key of `BACKENDS`.
        model: lowered.
        preprocessing: input size and normalization.
        options: the format's own; those left out have their defaults.
        changes: further fields of `ExportSpec`.
    """
    task = TASKS["classification"]
    made = ExportSpec(
        model=model,
        title="a network, classification",
        outputs=task.outputs,
        class_logits=task.class_logits,
        pixel_logits=task.pixel_logits,
        cells=task.cells,
        scores="softmax",
        preprocessing=preprocessing,
        input_kind="tensor",
        batch=1,
        labels=None,
        metadata={"variant": "xxs"},
        options=BACKENDS[format_name].options(**(options or {})),
    )
    return replace(made, **changes)
