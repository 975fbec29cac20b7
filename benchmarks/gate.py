"""Measure the cost of the gate and its rate of false alarms.

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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import latency, limits
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Preprocessing, RenderedImages, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact, pack
from cloformer_deploy.gate.checks import Current, Images, against_baseline
from cloformer_deploy.gate.config import DriftConfig
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import TASKS, Comparison, Outputs
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.validation import against_pytorch, artifact_outputs, reference_outputs
from cloformer_deploy.validation.inference import rows
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

BATCH = 16
FORMATS_RESAMPLED = ("onnx", "tflite")
"""Core ML's interpreter takes its time; the checks are the same."""
POOL = range(20_000, 22_000)
"""Rendered test images that nothing else looks at."""


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
    batches = [batch.pixels for batch in RenderedImages("test", range(count)).batches(manifest.preprocessing, BATCH)]
    model = build_model(load_checkpoint(bundle.weights_path))
    sessions = [runtime_for(item.format).open(bundle.path(item)) for item in manifest.artifacts]
    begun = time.monotonic()
    for pixels in batches:
        expected = reference_outputs(model, manifest.preprocessing.normalize(pixels), TASKS[manifest.task].outputs)
        for session in sessions:
            artifact_outputs(session, pixels, manifest.preprocessing, "tensor", expected)
    return time.monotonic() - begun


def false_alarms(folder: Path, exports: int, trials: int, drawn: int) -> dict[str, Any]:
    """Count the clean builds that fail, with the checks that failed."""
    files = [_re_export(folder / str(seed), seed) for seed in range(exports)]
    images, expected, labels, found = latency.in_a_process(_outputs, [bundle.root for bundle in files])
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
    make_calibration("rendered", 256, seed, Preprocessing.published(latency.SIDE, latency.SIDE), calibration, Silent())
    request = ExportRequest(FORMATS_RESAMPLED, ("int8",), calibration=calibration, output=folder / "bundle")
    return export(request, Silent()).bundle


def _outputs(roots: list[Path]) -> tuple[list[int], Outputs, list[int], dict[tuple[int, str], Outputs]]:
    latency.keep_to(1)
    bundles = [Bundle.open(root) for root in roots]
    manifest = bundles[0].manifest
    model = build_model(load_checkpoint(bundles[0].weights_path))
    sessions = {
        (index, item.format): runtime_for(item.format).open(bundle.path(item))
        for index, bundle in enumerate(bundles)
        for item in bundle.manifest.artifacts
    }
    expected: list[Outputs] = []
    labels: list[int] = []
    found: dict[tuple[int, str], list[Outputs]] = {name: [] for name in sessions}
    for batch in RenderedImages("test", POOL).batches(manifest.preprocessing, BATCH):
        images = manifest.preprocessing.normalize(batch.pixels)
        expected.append(reference_outputs(model, images, TASKS[manifest.task].outputs))
        labels += [] if batch.labels is None else batch.labels.tolist()
        for name, session in sessions.items():
            outputs = artifact_outputs(session, batch.pixels, manifest.preprocessing, "tensor", expected[-1])
            found[name].append(outputs)
    return list(POOL), _joined(expected), labels, {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[Outputs]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _compared(expected: Outputs, found: Outputs, labels: list[int]) -> tuple[Comparison, list[bytes], list[bytes]]:
    """Compare some images; return the comparison, PyTorch's evidence and the artifact's."""
    task = TASKS["classification"]
    before, after = task.evidence(expected, expected), task.evidence(found, expected)
    figures = summarize(image_distances(expected, found, task.outputs))
    return replace(task.compare(before, after, labels), **asdict(figures)), before, after


def _judged(
    files: list[Bundle],
    format_name: str,
    build: int,
    drawn: tuple[NDArray[np.intp], NDArray[np.intp]],
    expected: Outputs,
    labels: list[int],
    found: dict[tuple[int, str], Outputs],
) -> list[str]:
    """Return the names of the checks that fail for one build, against the first on other images."""
    task = TASKS["classification"]
    old, new = (_artifact(files[index], format_name) for index in (0, build))
    results = []
    for index, chosen in zip((0, build), drawn, strict=True):
        some = chosen.tolist()
        targets = [labels[place] for place in some]
        results.append((*_compared(rows(expected, some), rows(found[index, format_name], some), targets), targets))
    accepted, _, evidence, _ = results[0]
    current, expected_evidence, current_evidence, targets = results[1]
    before = BaselineArtifact(
        format=format_name,
        precision="int8",
        target=old.target,
        sha256=old.sha256,
        bytes=old.bytes,
        operators=_operators(files[0], old),
        sqnr_ci95_db=accepted.sqnr_ci95_db or (0.0, 0.0),
        evidence=pack(evidence),
    )
    names = [[f"{index:016x}" for index in chosen] for chosen in drawn]
    sha256 = files[0].manifest.weights.sha256
    baseline = Baseline(
        tool_version="0", task=task.name, weights_sha256=sha256, images=tuple(names[0]), artifacts=(before,)
    )
    limits = DriftConfig().limits_of(new, task)
    images = Images({name: place for place, name in enumerate(names[1])}, targets, True, expected_evidence)
    now = Current(current, current_evidence, new.bytes, _operators(files[build], new))
    checks = [
        *against_pytorch(current, limits.model_dump(), task.metric_title, 0),
        *against_baseline(task, now, images, limits, baseline, before),
    ]
    return [check.name for check in checks if check.outcome == "failed"]


def _artifact(bundle: Bundle, format_name: str) -> Artifact:
    return next(item for item in bundle.manifest.artifacts if item.format == format_name)


_OPERATORS: dict[str, int] = {}


def _operators(bundle: Bundle, artifact: Artifact) -> int:
    if artifact.sha256 not in _OPERATORS:
        _OPERATORS[artifact.sha256] = sum(BACKENDS[artifact.format].describe(bundle.path(artifact)).operators.values())
    return _OPERATORS[artifact.sha256]


def main(
    count: Annotated[int, typer.Option(min=1, help="Images of the cost.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    exports: Annotated[int, typer.Option(min=2)] = 5,
    trials: Annotated[int, typer.Option(min=1)] = 200,
    drawn: Annotated[int, typer.Option(min=1, help="Images of a trial.")] = 1000,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = export(ExportRequest(tuple(BACKENDS), ("int8",), output=folder / "bundle"), Silent()).bundle
        costs = [cost(bundle, count) for _ in range(repeats)]
        alarms = false_alarms(folder, exports, trials, drawn)
    medians = {key: statistics.median(item[key] for item in costs) for key in costs[0]}
    measured = {"schema_version": 1, "machine": latency.machine(), "images": count, "cost": medians, "alarms": alarms}
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(
        f"{count} images, int8 in {len(BACKENDS)} formats: the gate takes {medians['gate_s']:.1f} s, inference alone "
        f"{medians['alone_s']:.1f} s ({medians['ratio']:.2f}x); again {medians['again_s']:.1f} s"
    )
    print(f"{alarms['alarms']} false alarms in {trials} trials of {drawn} images, {exports} exports")
    if checked:
        limits.enforce(limits.gate, measured)


if __name__ == "__main__":
    typer.run(main)
