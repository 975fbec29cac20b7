"""Checks of a written file before it is listed: it runs, computes what PyTorch does, and compiles for its NPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.base import CATEGORY_NAME, DETECTIONS, INPUT_NAME, ExportSpec, Session
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.backends.target import FLOATS, ArtifactKey
from cloformer_deploy.bundle.manifest import NpuCheck
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import ToolError
from cloformer_deploy.exporting.jobs import Check, Job
from cloformer_deploy.npu import Compiled, Npu, asked_by_export
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from cloformer_deploy.tasks.distances import DistanceFigures

PROBE_IMAGES = 3
SAME_CLASSES = 0.995
"""Share of pixels on which a file's class map must be that of its own logits; float16 decides near ties otherwise."""
SAME_BOX = 0.99
"""Intersection over union from which on a box that a file suppresses by itself is that of its own cells."""
SQNR_FLOOR_DB: Mapping[bool, float] = {True: 30.0, False: 5.0}
"""Below this SQNR a float file (True) or a quantized one does not compute the model at all. How much drift is too much
is decided by `validate`: the probe images are rendered ones, for which the model may not be trained."""


class _Probes:
    """Probe images, and PyTorch's outputs for them, for one file."""

    def __init__(self, path: Path, job: Job, precision: str, reference: "nn.Module", spec: ExportSpec) -> None:
        from cloformer_deploy.validation import reference_outputs

        preprocessing = job.source.preprocessing
        self.path, self._job, self._precision, self._spec = path, job, precision, spec
        self.pixels = probe_images(PROBE_IMAGES, preprocessing)
        self._expected = reference_outputs(reference, preprocessing.normalize(self.pixels), spec.outputs)

    def outputs(self, session: Session) -> Outputs:
        """Return what the file computes."""
        from cloformer_deploy.system.files import naming
        from cloformer_deploy.validation import artifact_outputs

        with naming(self.path.name):
            return artifact_outputs(
                session, self.pixels, self._job.source.preprocessing, self._job.input_kind, self._expected
            )

    def distances(self, found: Outputs, place: str = "") -> "DistanceFigures":
        """Return how far outputs are from PyTorch's.

        Raises:
            ToolError: they are no numbers where PyTorch's are, or something else altogether.
        """
        from cloformer_deploy.tasks.distances import image_distances, summarize

        figures = summarize(image_distances(self._expected, found, self._spec.outputs), interval=False)
        sqnr_db = _sqnr_db(figures)
        if figures.non_finite or sqnr_db < SQNR_FLOOR_DB[self._precision in FLOATS]:
            what = f"NaN or Inf on {figures.non_finite}" if figures.non_finite else f"{sqnr_db:.1f} dB SQNR over"
            raise ToolError(
                f"{self.path.name} does not compute what PyTorch does{place}: {what} of {PROBE_IMAGES} probe images",
                "choose a higher precision; if this is fp32, report it",
            )
        return figures


def check_file(
    path: Path, job: Job, precision: str, reference: "nn.Module", spec: ExportSpec, progress: Progress
) -> Check:
    """Load a file, run it on probe images and compare it with PyTorch; then ask the compilers of its NPUs.

    Raises:
        ToolError: it does not run, gives NaN or infinity where PyTorch does not, computes something else, or does not
            compile.
    """
    runtime = runtime_for(job.format)
    session = runtime.open(path)
    probes = _Probes(path, job, precision, reference, spec)
    found = probes.outputs(session)
    if spec.has_category:
        _check_category(path, found, spec)
    if spec.has_detections:
        _check_detections(path, session, probes.pixels, spec)
    figures = probes.distances(found)
    failures = BACKENDS[job.format].weight_differences(path, spec.model)
    if failures:
        raise ToolError(f"{path.name} does not hold PyTorch's weights: {failures[0]}", "report this")
    return Check(
        precision=precision,
        runtime=runtime.name,
        n=PROBE_IMAGES,
        max_abs_diff=figures.max_abs_diff or 0.0,
        sqnr_db=_sqnr_db(figures),
        wide=spec.quantized is not None and bool(spec.quantized.plan.wide),
        npus=_npu_checks(probes, ArtifactKey(job.format, precision, job.target), progress),
    )


def _sqnr_db(figures: "DistanceFigures") -> float:
    """Return the SQNR in dB; minus infinity where there is none."""
    return figures.sqnr_db if figures.sqnr_db is not None else float("-inf")


def _npu_checks(probes: _Probes, kind: ArtifactKey, progress: Progress) -> tuple[NpuCheck, ...] | None:
    """Ask the compiler of each NPU that files of a kind are for; None for other kinds, none where it is missing."""
    npus = asked_by_export(kind)
    if not npus:
        return None
    lacks = [lack for npu in npus if (lack := npu.missing()) is not None]
    if lacks:
        name = f"{kind.format} {kind.precision} {kind.target}"
        progress.warn(f"{name} is unverified: no compiler of its NPU was asked; {lacks[0].message} ({lacks[0].hint})")
        return ()
    return tuple(_npu_check(probes, npu, progress) for npu in npus)


def _npu_check(probes: _Probes, npu: Npu, progress: Progress) -> NpuCheck:
    progress.step(f"Compiling {probes.path.name} for {npu.title}")
    compiled = npu.compile(probes.path)
    left = compiled.left_on_cpu
    if left:
        progress.warn(f"{npu.title} leaves operators of {probes.path.name} to the CPU: {_left(compiled)}")
    if npu.simulator is None:
        return NpuCheck(device=npu.name, compiler=npu.compiler, left_on_cpu=left)
    figures = probes.distances(probes.outputs(npu.simulator.open(probes.path)), f" on {npu.title}")
    return NpuCheck(
        device=npu.name, compiler=npu.compiler, left_on_cpu=left, simulated=PROBE_IMAGES, sqnr_db=_sqnr_db(figures)
    )


def _left(compiled: Compiled) -> str:
    left = [item for item in compiled.placement if item.unit == "CPU"]
    return "; ".join(f"{item.count} {item.operator} ({item.reason})" for item in left)


def _check_category(path: Path, found: Outputs, spec: ExportSpec) -> None:
    """Compare the class map inside a file with the classes of its own logits.

    Raises:
        ToolError: they differ on more pixels than ties explain. Runtimes have been seen to compute it wrong.
    """
    import numpy as np

    from cloformer_deploy.tasks.segmentation import classes_of

    logits = found[str(spec.pixel_logits)]
    expected = np.stack([classes_of(item) for item in logits])
    share = float((found[CATEGORY_NAME] == expected).mean())
    if share < SAME_CLASSES:
        raise ToolError(
            f"the class map in {path.name} has the class of its own logits on {share:.2%} of the pixels only",
            "use --input tensor, whose files have no class map, and report this",
        )


def _check_detections(path: Path, session: "Session", pixels: "NDArray[np.uint8]", spec: ExportSpec) -> None:
    """Compare the detections inside a file with those of its own boxes and scores.

    Raises:
        ToolError: they differ.
    """
    from cloformer_deploy.tasks.boxes import detections, overlaps

    assert spec.cells is not None and spec.suppression is not None  # noqa: S101, PT018 - a spec has detections of cells
    for image in pixels:
        found = session.run({INPUT_NAME: image[None]})
        boxes, scores = (found[name][0] for name in spec.cells)
        if spec.suppression.best_class:
            scores = scores * (scores == scores.max(axis=1, keepdims=True))
        expected = detections(boxes, scores)
        made_boxes, made_scores, made_classes = (found[name] for name in DETECTIONS)
        same = (overlaps(expected.boxes, made_boxes) > SAME_BOX) & (expected.classes[:, None] == made_classes)
        if made_scores.shape != expected.scores.shape or not same.any(axis=1).all():
            raise ToolError(
                f"the detections in {path.name} are not those of its own boxes and scores",
                "use --input tensor, whose files have no suppression, and report this",
            )
