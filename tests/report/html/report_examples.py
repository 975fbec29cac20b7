"""Reports of any size without files, with real figures and checks of made-up logits."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.description import Description, GraphSummary, TensorInfo
from cloformer_deploy.backends.inspection import Inspection
from cloformer_deploy.backends.registry import BACKENDS, default_target, recipe_of
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.bench import Result
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, OutputTensor, Weights, artifact_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.gate import Cell, DriftConfig, Gate
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.npu import NPUS, Compiled, Estimate, Layer, Placed
from cloformer_deploy.report.html import Asked, Report
from cloformer_deploy.report.html.commands import commands
from cloformer_deploy.report.html.contents import File, Placement
from cloformer_deploy.tasks import TASKS, Comparison
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.validation.checks import against_pytorch

HOSTILE = "<script>alert(1)</script>\"'&"
IMAGES, CLASSES = 400, 10
NOISE = {"fp32": 1e-5, "fp16": 1e-3}
COARSE = 0.02
KINDS = [
    (name, precision, target.name)
    for name, item in BACKENDS.items()
    for target in item.targets.values()
    for precision in target.precisions
]
LABELS = tuple(f"class {index}" for index in range(CLASSES))
TASK = TASKS["classification"]


def artifacts(count: int) -> list[Artifact]:
    """Return as many kinds of artifact, each with its own name, checksum and size."""
    return [
        Artifact(
            path=artifact_name("xxs", precision, target, default_target(name), BACKENDS[name].suffix),
            format=name,
            precision=precision,
            target=target,
            sha256=f"{index:064x}",
            bytes=16_000_000 if precision == "fp32" else 4_500_000 + 100_000 * index,
            input=Interface(kind="tensor", batch=1),
            outputs=(OutputTensor(name="logits", shape=(1, CLASSES), dtype="float32"),),
            options=BACKENDS[name].options().settled(recipe_of(ArtifactKey(name, precision, target))).model_dump(),
            created_with={"torch": "2.13.0"},
        )
        for index, (name, precision, target) in enumerate(KINDS[:count])
    ]


def measured(artifact: Artifact, device: str = "host", source: str = "host", **figures: Any) -> Result:
    """Return a result of `bench`."""
    told = {"status": "measured", "threads": 1, "n": 100, "measured_at": "2026-01-01T00:00:00Z", **figures}
    kind = artifact.model_dump(include={"path", "format", "precision", "target", "sha256"})
    return Result.model_validate({**kind, "device": device, "source": source, **told})


def report(
    count: int = 3,
    labels: tuple[str, ...] | None = LABELS,
    results: Sequence[Result] = (),
    weights: str = "mine",
    labeled: bool = True,
    broken: Sequence[int] = (),
) -> Report:
    """Return a report of `count` artifacts; those at the indices `broken` have their classes in another order."""
    manifest = Manifest(
        schema_version=2,
        tool_version="1",
        task=TASK.name,
        network="cloformer",
        variant="xxs",
        architecture=VARIANTS["xxs"].of_classes(CLASSES).as_json(),
        labels=labels,
        weights=Weights(name=weights, sha256="a" * 64, file="weights.safetensors", file_sha256="b" * 64),
        preprocessing=Preprocessing.published(224, 224),
        artifacts=tuple(artifacts(count)),
    )
    bundle = Bundle(Path("a bundle"), manifest)
    cells = [_cell(item, place in broken, labeled) for place, item in enumerate(manifest.artifacts)]
    result = Gate(
        images="IMAGES",
        task=TASK.name,
        metric=TASK.metric,
        metric_title=TASK.metric_title,
        reference=_compared(*_expected(), labeled),
        labels=labels,
        cells=tuple(cells),
        absent=(),
        new_baseline=None,
        missing=(),
        config=None,
    )
    files = tuple(File(item, None, _inspection(item), placements=_placements(item)) for item in manifest.artifacts)
    made = commands(bundle, results, Asked(limit=IMAGES))
    return Report(bundle, result, tuple(results), files, {"a runtime": "1"}, made, datetime(2026, 1, 2, tzinfo=UTC))


def _cell(artifact: Artifact, broken: bool, labeled: bool) -> Cell:
    rng = np.random.default_rng(1)
    expected, _ = _expected()
    noise = NOISE.get(artifact.precision, COARSE) * rng.normal(size=expected.shape).astype(np.float32)
    found = np.roll(expected, 1, axis=1) if broken else expected + noise
    comparison = _compared(expected, found, labeled)
    limits = DriftConfig().limits_of(artifact, TASK)
    checks = tuple(against_pytorch(comparison, limits.model_dump(), TASK.metric_title, 0))
    failed = any(check.outcome == "failed" for check in checks)
    causes = (f"cause {HOSTILE}",) if failed else ()
    return Cell(artifact, "a-runtime", "failed" if failed else "passed", checks, causes, comparison, operators=12)


def _expected() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return PyTorch's logits (IMAGES, CLASSES), twice."""
    logits = np.random.default_rng(0).normal(size=(IMAGES, CLASSES)).astype(np.float32)
    return logits, logits


def _compared(expected: NDArray[np.float32], found: NDArray[np.float32], labeled: bool) -> Comparison:
    """Compare logits (IMAGES, CLASSES). PyTorch is right on all images but every tenth, whose label is class 0."""
    right = np.where(np.arange(IMAGES) % 10, expected.argmax(axis=1), 0).astype(np.int64)
    before, after = {"logits": expected}, {"logits": found}
    evidence = TASK.evidence(before, before), TASK.evidence(after, before)
    compared = TASK.compare(*evidence, list(right) if labeled else None)
    return replace(compared, **asdict(summarize(image_distances(before, after, TASK.outputs))))


def _placements(artifact: Artifact) -> tuple[Placement, ...]:
    """Return a placement, and one whose compiler failed."""
    npu = NPUS["ethos-u85-1024"]
    rows = (Placed("Conv2D", 7, 0.875, "NPU", "", 0.6254), Placed("Gelu", 2, 0.125, "CPU", f"left {HOSTILE}"))
    layers = (Layer("relu", "Conv2D", "NPU", 10), Layer("relu", "Conv2D", "NPU", 20), Layer("gelu", "Gelu", "CPU", 0))
    compiled = Compiled(rows, 5_000_000, Estimate(6.81, {"SRAM": 1_000_000}, "a system"), layers, ("a note",))
    return (Placement(npu, compiled), Placement(npu, None, f"crashed {HOSTILE}"))


def _inspection(artifact: Artifact) -> Inspection:
    tensors = TensorInfo("image", (1, 3, 224, 224), "float32"), TensorInfo("logits", (1, CLASSES), "float32")
    counts = {"Conv": 10, f"Odd {HOSTILE}": 2}
    graph = GraphSummary(transposes=0, max_rank=4, parameters=1000, macs=None)
    described = Description(
        artifact.format, artifact.precision, tensors[:1], tensors[1:], counts, graph, artifact.bytes, {}, ()
    )
    return Inspection(described)
