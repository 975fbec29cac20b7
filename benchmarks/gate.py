"""What the gate costs, and how often it cries wolf.

    python benchmarks/gate.py [--output FILE]

Cost: the gate on int8 files of all formats, with an empty store, over what their runtimes and PyTorch take for the same
images by themselves, one after the other on one thread each; and the gate again, with nothing changed, in seconds.

False alarms: clean re-exports, each calibrated on other images, judged against a baseline of the first, on images
drawn anew from a pool for the baseline and for each judgement. Logits are computed once; the checks are the gate's own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import latency
from cloformer_deploy.backends.registry import FORMATS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Preprocessing, RenderedImages, make_calibration
from cloformer_deploy.data.calibration_making import RENDERED
from cloformer_deploy.export.pipeline import ExportRequest, export
from cloformer_deploy.gate.baseline import Accepted, Baseline, pack
from cloformer_deploy.gate.checks import against_baseline, against_pytorch
from cloformer_deploy.gate.config import DriftConfig
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import artifact_logits, reference_logits
from cloformer_deploy.validation.paired import Paired
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

BATCH = 16
FORMATS_RESAMPLED = ("onnx", "tflite")
"""Core ML's interpreter takes its time; the checks are the same."""
POOL = range(20_000, 22_000)
"""Rendered test images that nothing else looks at."""
Logits = NDArray[np.float32]


def cost(bundle: Bundle, count: int) -> dict[str, float]:
    """Seconds of the gate, of the runtimes and PyTorch alone, and of the gate again."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "cloformer_deploy", "gate", str(bundle.root), "--cache", cache]
        command += ["--limit", str(count), "--json"]
        alone = latency.in_a_process(_alone, bundle.root, count)
        seconds = []
        for _ in range(2):
            begun = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
            seconds.append(time.monotonic() - begun)
    return {"alone_s": alone, "gate_s": seconds[0], "ratio": seconds[0] / alone, "again_s": seconds[1]}


def _alone(root: Path, count: int) -> float:
    """Seconds that inference takes, images being in memory already."""
    latency.keep_to(1)
    bundle = Bundle.open(root)
    manifest = bundle.manifest
    batches = [batch.pixels for batch in RenderedImages("test", range(count)).batches(manifest.input, BATCH)]
    model = build_model(load_checkpoint(bundle.weights_path))
    sessions = [runtime_for(item.format).open(bundle.path(item)) for item in manifest.artifacts]
    begun = time.monotonic()
    for pixels in batches:
        reference_logits(model, pixels, manifest.input)
        for session in sessions:
            artifact_logits(session, pixels, manifest.input, "tensor", manifest.num_classes)
    return time.monotonic() - begun


def false_alarms(folder: Path, exports: int, trials: int, drawn: int) -> dict[str, Any]:
    """How many clean builds fail, and what for."""
    files = [_re_export(folder / str(seed), seed) for seed in range(exports)]
    images, expected, labels, found = latency.in_a_process(_logits, [bundle.root for bundle in files])
    rng, failures, alarmed = np.random.default_rng(0), [], 0
    for trial in range(trials):
        wanted = rng.integers(1, exports)
        before, after = (np.sort(rng.choice(len(images), drawn, replace=False)) for _ in range(2))
        wrong = [
            f"{format_name}: {name}"
            for format_name in FORMATS_RESAMPLED
            for name in _judged(files, format_name, int(wanted), (before, after), expected, labels, found)
        ]
        alarmed += bool(wrong)
        failures += [f"trial {trial}: {name}" for name in wrong]
    return {"trials": trials, "images": drawn, "exports": exports, "alarms": alarmed, "failures": failures}


def _re_export(folder: Path, seed: int) -> Bundle:
    calibration = folder / "calibration.safetensors"
    folder.mkdir()
    make_calibration(RENDERED, 256, seed, Preprocessing.published(latency.SIDE, latency.SIDE), calibration, Silent())
    request = ExportRequest(FORMATS_RESAMPLED, ("int8",), calibration=calibration, output=folder / "bundle")
    return export(request, Silent()).bundle


def _logits(roots: list[Path]) -> tuple[list[int], Logits, NDArray[np.int64], dict[tuple[int, str], Logits]]:
    latency.keep_to(1)
    bundles = [Bundle.open(root) for root in roots]
    manifest = bundles[0].manifest
    model = build_model(load_checkpoint(bundles[0].weights_path))
    sessions = {
        (index, item.format): runtime_for(item.format).open(bundle.path(item))
        for index, bundle in enumerate(bundles)
        for item in bundle.manifest.artifacts
    }
    expected: list[Logits] = []
    labels: list[NDArray[np.int64]] = []
    found: dict[tuple[int, str], list[Logits]] = {name: [] for name in sessions}
    for batch in RenderedImages("test", POOL).batches(manifest.input, BATCH):
        expected.append(reference_logits(model, batch.pixels, manifest.input))
        labels += [] if batch.labels is None else [batch.labels]
        for name, session in sessions.items():
            found[name].append(artifact_logits(session, batch.pixels, manifest.input, "tensor", manifest.num_classes))
    together = {name: np.concatenate(rows) for name, rows in found.items()}
    return list(POOL), np.concatenate(expected), np.concatenate(labels), together


def _judged(
    files: list[Bundle],
    format_name: str,
    build: int,
    drawn: tuple[NDArray[np.intp], NDArray[np.intp]],
    expected: Logits,
    labels: NDArray[np.int64],
    found: dict[tuple[int, str], Logits],
) -> list[str]:
    """The names of the checks that fail of one build, against the first on other images."""
    old, new = (_artifact(files[index], format_name) for index in (0, build))
    drifts = []
    for index, chosen in zip((0, build), drawn, strict=True):
        drift = Paired()
        drift.update(expected[chosen], found[index, format_name][chosen], labels[chosen])
        drifts.append(drift)
    accepted = Accepted(
        format=format_name,
        precision="int8",
        target=old.target,
        sha256=old.sha256,
        bytes=old.bytes,
        operators=_operators(files[0], old),
        sqnr_ci95_db=drifts[0].sqnr_ci95_db(),
        agrees=pack(drifts[0].agrees),
        right=pack(drifts[0].right),
    )
    names = [[f"{index:016x}" for index in chosen] for chosen in drawn]
    sha256 = files[0].manifest.weights.sha256
    baseline = Baseline(tool_version="0", weights_sha256=sha256, images=tuple(names[0]), artifacts=(accepted,))
    limits = DriftConfig().limits_of(new)
    places = {name: place for place, name in enumerate(names[1])}
    operators = _operators(files[build], new)
    checks = [
        *against_pytorch(drifts[1], limits, 0),
        *against_baseline(drifts[1], new.bytes, operators, limits, baseline, accepted, places),
    ]
    return [check.name for check in checks if check.outcome == "failed"]


def _artifact(bundle: Bundle, format_name: str) -> Artifact:
    return next(item for item in bundle.manifest.artifacts if item.format == format_name)


_OPERATORS: dict[str, int] = {}


def _operators(bundle: Bundle, artifact: Artifact) -> int:
    if artifact.sha256 not in _OPERATORS:
        _OPERATORS[artifact.sha256] = sum(FORMATS[artifact.format].describe(bundle.path(artifact)).operators.values())
    return _OPERATORS[artifact.sha256]


def main(
    count: Annotated[int, typer.Option(min=1, help="ImageSet of the cost.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    exports: Annotated[int, typer.Option(min=2)] = 5,
    trials: Annotated[int, typer.Option(min=1)] = 200,
    drawn: Annotated[int, typer.Option(min=1, help="ImageSet of a trial.")] = 1000,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
) -> None:
    """Measure, write, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = export(ExportRequest(tuple(FORMATS), ("int8",), output=folder / "bundle"), Silent()).bundle
        costs = [cost(bundle, count) for _ in range(repeats)]
        alarms = false_alarms(folder, exports, trials, drawn)
    medians = {key: statistics.median(item[key] for item in costs) for key in costs[0]}
    measured = {"schema_version": 1, "machine": latency.machine(), "images": count, "cost": medians, "alarms": alarms}
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(
        f"{count} images, int8 in {len(FORMATS)} formats: the gate takes {medians['gate_s']:.1f} s, inference alone "
        f"{medians['alone_s']:.1f} s ({medians['ratio']:.2f}x); again {medians['again_s']:.1f} s"
    )
    print(f"{alarms['alarms']} false alarms in {trials} trials of {drawn} images, {exports} exports")


if __name__ == "__main__":
    typer.run(main)
