"""`export`: a bundle of a network of one's own, like those of CloFormer's weights."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.data.preprocessing import color_of
from cloformer_deploy.errors import UnsupportedModelError
from cloformer_deploy.exporting import pipeline
from cloformer_deploy.exporting.pipeline import Export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.networks.program.network import SUFFIX
from cloformer_deploy.networks.program.tracing import ONE_IMAGE, check_example, named_tensors, run, traced
from cloformer_deploy.progress import Progress, Silent
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.weights.programs import About, saved

CALIBRATION_IMAGES = 256
"""Images that are taken of a folder, as many as `calibrate` takes."""


def export(
    model: nn.Module,
    example: Tensor,
    output: str | Path,
    formats: Sequence[str] = ("onnx", "coreml", "tflite"),
    precisions: Sequence[str] = ("fp32",),
    *,
    task: str = "tensors",
    outputs: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    target: str | None = None,
    calibration: str | Path | None = None,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Export:
    """Trace a network, prepare it for each format, convert it, run every file and compare it with the network.

    The bundle holds the network as a `torch.export` program; the commands need nothing of its code afterwards. The
    network itself is not changed.

    Args:
        model: any vision network, float32 on the CPU: one image batch in, tensors out, alone or in a tuple, list or
            dictionary. It is exported in evaluation mode.
        example: an image batch (B, C, H, W), float32; height and width are multiples of 32, and become the files'.
        output: folder of the bundle.
        formats: keys of `backends.registry.BACKENDS`.
        precisions: of each format.
        task: `tensors`, or a known task (classification, segmentation, detection) whose outputs these are.
        outputs: names of the outputs, in order; None takes keys of a dictionary, else numbers.
        labels: names of the classes of a known task.
        mean: subtracted from each channel of pixels from 0 to 1; None assumes ImageNet's, and says so.
        std: divides each channel after that; None likewise.
        target: of each format; None is each format's default.
        calibration: folder of images like those the network is for, or a file that `calibrate` wrote; integer
            activations need one.
        overwrite: replace what stands at `output`.
        options: options of formats, such as `ios`.
        progress: receives each step; None is silent.

    Raises:
        UnsupportedModelError: the network has another interface, or cannot be traced.
        RequestError: the request contradicts itself, or the output cannot be used.
        MissingPartError: a converter is not installed.
        ToolError: a converter or runtime failed.
    """
    progress = progress or Silent()
    example = check_example(model, example)
    progress.step("Tracing the network")
    names = _names(model, example, task, outputs)
    program = traced(model, example, any_batch=True)
    about = About(
        outputs=names,
        task=task,
        labels=tuple(labels) if labels is not None else None,
        mean=tuple(map(float, mean)) if mean is not None else None,
        std=tuple(map(float, std)) if std is not None else None,
    )
    with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
        path = Path(folder, f"{type(model).__name__.lower()}{SUFFIX}")
        path.write_bytes(saved(program, about))
        request = ExportRequest(
            formats=tuple(formats),
            precisions=tuple(precisions),
            weights=str(path),
            target=target,
            calibration=_calibration(calibration, task, example, Path(folder), progress),
            output=Path(output),
            overwrite=overwrite,
            options=dict(options or {}),
        )
        return pipeline.export(request, progress)


def _calibration(given: str | Path | None, task: str, example: Tensor, folder: Path, progress: Progress) -> Path | None:
    """Return the file of a calibration set; of a folder of images it is made, as `calibrate` makes it."""
    if given is None or not Path(given).is_dir():
        return None if given is None else Path(given)
    channels, height, width = example.shape[1:]
    margin = task not in TASKS or TASKS[task].margin
    preprocessing = Preprocessing.published(height, width, color_of(channels), margin=margin)
    path = folder / "calibration.safetensors"
    made = make_calibration(str(given), CALIBRATION_IMAGES, 0, preprocessing, path, progress)
    whole = "" if margin else " --whole"
    progress.step(
        f"Calibrating on {made.calibration.n} images; blame takes the same set: cloformer-deploy calibrate {given} "
        f"--input-size {height}x{width}{whole} --output FILE"
    )
    return path


def _names(model: nn.Module, example: Tensor, task: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the outputs: those of the task, those that are given, or their own."""
    training = model.training
    try:
        found = [name for name, _ in named_tensors(run(model.eval(), example))]
    finally:
        model.train(training)
    if given is None:
        known = {"classification": ["logits"], "segmentation": ["logits"], "detection": ["boxes", "scores"]}
        given = known.get(task, found)
    if len(given) != len(found) or len(set(given)) != len(given):
        raise UnsupportedModelError(
            f"the network has {len(found)} outputs ({', '.join(found)}), not one for each of {', '.join(given)}",
            ONE_IMAGE,
        )
    return tuple(given)
