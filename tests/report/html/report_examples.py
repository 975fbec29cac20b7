"""Reports of any size without files: real figures and checks of made-up logits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cloformer_deploy.backends.base import Description, GraphSummary, TensorInfo
from cloformer_deploy.backends.inspection import Inspection
from cloformer_deploy.backends.registry import FLOATS, FORMATS
from cloformer_deploy.bench import Result
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, Weights, artifact_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.gate import Cell, DriftConfig, Gate
from cloformer_deploy.gate.checks import against_pytorch
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.report.html import Asked, Report
from cloformer_deploy.report.html.commands import commands
from cloformer_deploy.report.html.contents import File
from cloformer_deploy.validation.paired import Paired

HOSTILE = "<script>alert(1)</script>\"'&"
IMAGES, CLASSES = 400, 10
NOISE = {"fp32": 1e-5, "fp16": 1e-3}
COARSE = 0.02
KINDS = [
    (name, precision, target)
    for name, item in FORMATS.items()
    for target in item.targets
    for precision in (*FLOATS, *RECIPES[name, target])
]
LABELS = tuple(f"class {index}" for index in range(CLASSES))


def artifacts(count: int) -> list[Artifact]:
    """As many kinds of artifact, each with a name, checksum and size of its own."""
    return [
        Artifact(
            path=artifact_name("xxs", precision, target, FORMATS[name].targets[0], FORMATS[name].suffix),
            format=name,
            precision=precision,
            target=target,
            sha256=f"{index:064x}",
            bytes=16_000_000 if precision == "fp32" else 4_500_000 + 100_000 * index,
            input=Interface(kind="tensor", batch=1),
            created_with={"torch": "2.13.0"},
        )
        for index, (name, precision, target) in enumerate(KINDS[:count])
    ]


def measured(artifact: Artifact, device: str = "host", source: str = "host", **figures: Any) -> Result:
    """A result of `bench`."""
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
    """A report of `count` artifacts; those at the places `broken` see the classes in another order."""
    manifest = Manifest(
        schema_version=1,
        tool_version="1",
        variant="xxs",
        num_classes=CLASSES,
        labels=labels,
        weights=Weights(name=weights, sha256="a" * 64, file="weights.safetensors", file_sha256="b" * 64),
        input=Preprocessing.published(224, 224),
        artifacts=tuple(artifacts(count)),
    )
    bundle = Bundle(Path("a bundle"), manifest)
    cells = [_cell(item, place in broken, labeled) for place, item in enumerate(manifest.artifacts)]
    result = Gate(
        images="IMAGES",
        n=IMAGES,
        top1=_top1(cells[0]) if labeled else None,
        labels=labels,
        cells=tuple(cells),
        absent=(),
        accepted=None,
        missing=(),
        config=None,
    )
    files = tuple(File(item, None, _inspection(item)) for item in manifest.artifacts)
    made = commands(bundle, results, Asked(limit=IMAGES))
    return Report(bundle, result, tuple(results), files, {"a runtime": "1"}, made, datetime(2026, 1, 2, tzinfo=UTC))


def _cell(artifact: Artifact, broken: bool, labeled: bool) -> Cell:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(IMAGES, CLASSES)).astype(np.float32)
    right = np.where(np.arange(IMAGES) % 10, expected.argmax(axis=1), 0).astype(np.int64)
    noise = NOISE.get(artifact.precision, COARSE) * rng.normal(size=expected.shape).astype(np.float32)
    found = np.roll(expected, 1, axis=1) if broken else expected + noise
    drift = Paired()
    drift.update(expected, found, right if labeled else None)
    checks = tuple(against_pytorch(drift, DriftConfig().limits_of(artifact), 0))
    failed = any(check.outcome == "failed" for check in checks)
    causes = (f"cause {HOSTILE}",) if failed else ()
    return Cell(
        artifact, "a-runtime", "failed" if failed else "passed", checks, causes, drift, tuple(drift.classes()), 12
    )


def _top1(cell: Cell) -> float:
    assert cell.drift is not None
    return cell.drift.reference_correct / cell.drift.labeled


def _inspection(artifact: Artifact) -> Inspection:
    tensors = TensorInfo("image", (1, 3, 224, 224), "float32"), TensorInfo("logits", (1, CLASSES), "float32")
    counts = {"Conv": 10, f"Odd {HOSTILE}": 2}
    graph = GraphSummary(transposes=0, max_rank=4, parameters=1000, macs=None)
    described = Description(
        artifact.format, artifact.precision, tensors[:1], tensors[1:], counts, graph, artifact.bytes, {}, ()
    )
    return Inspection(described)
