"""INT8 and the other small precisions: accuracy, agreement, size and speed of every recipe, format and shipped model.

    python benchmarks/int8.py [--photographs DIR] [--output FILE]   # measures, writes JSON, prints the tables
    python benchmarks/int8.py --table FILE                          # prints the tables of a JSON file, in Markdown

Weights of the rendered task are judged on fresh rendered images, those of photographs on `DIR/drift224`, calibrated
with `DIR/calib224`. Speed is measured as in latency.py, of xxs with the former: ranges decide which attention needs no
maximum (`quantization.bounds`). Of the random weights of s none does: queries are made large.
"""

import functools
import importlib
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks import latency, limits
from benchmarks.speedups import speedups
from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import BACKENDS, DEFAULT_FORMATS, default_target, runtime_for, target_of
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import ImageSet, Preprocessing, RenderedImages, open_folder
from cloformer_deploy.data.calibration_making import make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.networks import network_of
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.progress import Silent
from cloformer_deploy.quantization.recipes import INT8
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.validation import artifact_outputs, reference_outputs
from cloformer_deploy.weights.zoo import DEFAULT

BATCH = 16
PHOTOGRAPHS = "xxs-imagenette"
FRESH = range(10_000, 15_000)
"""Rendered test images that nothing else looks at."""
UNBOUNDED = 300.0
"""By how much the queries of random weights are multiplied."""
MOST_OF_OTHERS = 1000
"""Images for precisions that are not int8: Core ML's interpreter takes its time."""
CANDIDATES = {
    "onnxruntime plain": "ONNX Runtime, plain float32 export",
    "onnxruntime": "ONNX Runtime, lowered float32",
    "onnxruntime int8": "**ONNX Runtime, int8**",
    "litert": "LiteRT, lowered float32",
    "litert int8": "**LiteRT, int8**",
}
COMPARISONS = (
    ("onnxruntime int8", "onnxruntime"),
    ("litert int8", "litert"),
    ("onnxruntime int8", "onnxruntime plain"),
    ("litert int8", "onnxruntime plain"),
)
FORMAT_OF = {runtime.name: name for name, backend in BACKENDS.items() for runtime in backend.runtimes}
PACKAGES = (*latency.PACKAGES, "coremltools", "ai-edge-quantizer")


def accuracy(weights: str, photographs: Path | None, limit: int | None) -> dict[str, Any]:
    """Export one model in every precision of the formats' default targets, and run every file on the same images."""
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder, "calibration.safetensors") if photographs else None
        if photographs and calibration:
            size = Preprocessing.published(latency.SIDE, latency.SIDE)
            make_calibration(str(photographs / "calib224"), 320, 0, size, calibration, Silent())
        for name in DEFAULT_FORMATS:
            precisions = ("fp32", *target_of(name, default_target(name)).recipes)
            request = ExportRequest([name], precisions, weights, calibration=calibration, output=Path(folder, "bundle"))
            bundle = export(request, Silent()).bundle
        images: ImageSet = RenderedImages("test", FRESH[:limit])
        if photographs:
            manifest = bundle.manifest
            images = open_folder(photographs / "drift224", manifest.num_classes, None).limited(limit)
        return latency.in_a_process(_judged, bundle.root, images)


def _judged(root: Path, images: ImageSet) -> dict[str, Any]:
    from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

    bundle = Bundle.open(root)
    manifest = bundle.manifest
    model = build_model(load_checkpoint(bundle.weights_path))
    small = [item for item in manifest.artifacts if item.precision != "fp32"]
    sessions = [runtime_for(item.format).open(bundle.path(item)) for item in small]
    task, preprocessing = TASKS[manifest.task], manifest.preprocessing
    expected_evidence: list[bytes] = []
    targets: list[int] = []
    evidence: list[list[bytes]] = [[] for _ in small]
    distances: list[list[bytes]] = [[] for _ in small]
    for batch in images.batches(preprocessing, BATCH):
        expected = reference_outputs(model, preprocessing.normalize(batch.pixels), task.outputs)
        expected_evidence += task.evidence(expected, expected)
        targets += [] if batch.labels is None else batch.labels.tolist()
        for item, session, kept, sums in zip(small, sessions, evidence, distances, strict=True):
            if item.precision != INT8 and len(kept) >= MOST_OF_OTHERS:
                continue
            found = artifact_outputs(session, batch.pixels, preprocessing, "tensor", expected)
            kept += task.evidence(found, expected)
            sums += image_distances(expected, found, task.outputs)
    sizes = {item.format: item.bytes for item in manifest.artifacts if item.precision == "fp32"}
    rows = []
    for item, kept, sums in zip(small, evidence, distances, strict=True):
        compared = task.compare(expected_evidence[: len(kept)], kept, targets[: len(kept)])
        rows.append(
            {
                "format": item.format,
                "precision": item.precision,
                "n": compared.n,
                "agreement": compared.agreement,
                "drop_pp": compared.drop_pp,
                "drop_ci95_pp": compared.drop_ci95_pp,
                "sqnr_db": summarize(sums).sqnr_db,
                "bytes": item.bytes,
                "size_ratio": item.bytes / sizes[item.format],
            }
        )
    int8 = {item.format: kept for item, kept in zip(small, evidence, strict=True) if item.precision == INT8}
    pairs = {f"{a} {b}": task.compare(int8[a], int8[b], None).agreement for a, b in itertools.combinations(int8, 2)}
    return {
        "weights": manifest.weights.name,
        "images": Path(images.name).name,
        "reference_top1": task.compare(expected_evidence, expected_evidence, targets).score,
        "artifacts": rows,
        "int8_agreement": pairs,
    }


def write_int8(variant: str, format_name: str, path: Path) -> None:
    """The int8 file of `latency.timed_model`, its ranges from a few rendered images."""
    from cloformer_deploy.quantization.preparation import CalibrationBatches, observed, prepared

    size = Preprocessing.published(latency.SIDE, latency.SIDE)
    images = RenderedImages("calibration", range(BATCH))
    batches = CalibrationBatches(images, size, f"{format_name} int8", Silent())
    target = target_of(format_name, "cpu")
    model = latency.timed_model(variant)
    if variant in VARIANTS:  # random: the attention's logits would all be near 0
        with torch.no_grad():
            for block in model.blocks:
                block.attn.global_q.weight.mul_(UNBOUNDED)
    network = network_of(model)
    seen = observed(model, network, target.integer_rewrites, target.recipes[INT8], batches)
    ready = prepared(seen, batches)
    spec = latency.spec_of(format_name, ready.model, ready)
    list(BACKENDS[format_name].convert(spec, {INT8: path}, Silent()))


def speed(variant: str, repeats: int, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each repeat, by candidate, with one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = latency.in_a_process(latency.export, variant, folder)
        for format_name in ("onnx", "tflite"):
            files[f"{format_name} int8"] = folder / f"int8{BACKENDS[format_name].suffix}"
            latency.in_a_process(write_int8, variant, format_name, files[f"{format_name} int8"])
        return latency.in_a_process(_interleaved, files, repeats, rounds)


def _interleaved(files: Mapping[str, Path], repeats: int, rounds: int) -> dict[str, list[float]]:
    image = latency.noise(latency.SIDE)
    latency.keep_to(1)
    openers = {}
    for candidate in CANDIDATES:
        runtime, _, kind = candidate.partition(" ")
        path = files[f"{FORMAT_OF[runtime]} {kind}".strip()]
        openers[candidate] = functools.partial(opened, runtime, path, image)
    return latency.interleaved(openers, repeats, rounds)


def opened(runtime: str, path: Path, image: NDArray[np.float32]) -> Callable[[], Any]:
    """Open a file with one thread as `bench` and applications do, and give a call that computes the output of `image`.

    `export` and `validate` ask ONNX Runtime for exact products, which take longer (docs/int8.md).
    """
    opener = importlib.import_module(f"cloformer_deploy.backends.{FORMAT_OF[runtime]}.opener")
    run = opener.open_file(str(path), 1, None)
    if runtime == "litert":  # whose files take NHWC
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    return lambda: run({INPUT_NAME: image})


def tables(measured: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    return "\n\n".join([*map(_accuracy_table, measured["accuracy"]), _speed_table(measured)])


def _accuracy_table(model: Mapping[str, Any]) -> str:
    rows = model["artifacts"]
    lines = [
        f"`{model['weights']}` on {model['images']}, PyTorch {model['reference_top1']:.1%}:",
        "",
        "| | images | agreement | drop, pp (95 %) | SQNR, dB | MB | of fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["drop_ci95_pp"]
        cells = [
            f"{row['format']} {row['precision']}",
            f"{row['n']:,}",
            f"{row['agreement']:.2%}",
            f"{row['drop_pp']:.2f} ({low:.2f}, {high:.2f})",
            f"{row['sqnr_db']:.1f}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['size_ratio']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    pairs = ", ".join(f"{name.replace(' ', ' and ')} {share:.2%}" for name, share in model["int8_agreement"].items())
    return "\n".join([*lines, "", f"The int8 files agree with one another: {pairs}."])


def _speed_table(measured: Mapping[str, Any]) -> str:
    variants = list(dict.fromkeys(item["variant"] for item in measured["results"]))
    ms = {(item["variant"], item["candidate"]): item["ms"] for item in measured["results"]}
    lines = [f"| ms, 1 thread | {' | '.join(variants)} |", "|---|" + "---|" * len(variants)]
    for candidate, title in CANDIDATES.items():
        lines.append(f"| {title} | " + " | ".join(f"{ms[variant, candidate]:.1f}" for variant in variants) + " |")
    for fast, slow in COMPARISONS:
        ratios = [statistics.median(speedups(measured, name, 1, fast, slow)) for name in variants]
        title = f"{CANDIDATES[fast].strip('*')} over {CANDIDATES[slow]}"
        lines.append(f"| {title} | " + " | ".join(f"{ratio:.2f}x" for ratio in ratios) + " |")
    protocol = measured["protocol"]
    conditions = (
        f"{latency.circumstances(measured)} 224 x 224 px, batch 1, s with random weights; medians of "
        f"{protocol['repeats']} repeats of {protocol['rounds']} rounds, interleaved; ratios are within a repeat."
    )
    return "\n".join([*lines, "", conditions])


def main(
    photographs: Annotated[Path | None, typer.Option(help="Folder with calib224 and drift224.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Images of each model; all if left out.")] = None,
    variants: Annotated[list[str], typer.Option("--variant")] = [DEFAULT, "s"],  # noqa: B006 - typer reads it as the default
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's tables, and measure nothing.")
    ] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    if from_file is not None:
        measured = json.loads(from_file.read_text())
        print(tables(measured))
        if checked:
            limits.enforce(limits.int8, measured)
        return
    judged = [accuracy(DEFAULT, None, limit)]
    if photographs is not None:
        judged.append(accuracy(PHOTOGRAPHS, photographs, limit))
    results = [
        {
            "variant": variant,
            "threads": 1,
            "candidate": candidate,
            **latency.figures(medians),
        }
        for variant in variants
        for candidate, medians in speed(variant, repeats, rounds).items()
    ]
    measured = {
        "schema_version": 1,
        "machine": latency.machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "protocol": {"repeats": repeats, "rounds": rounds, "side": latency.SIDE},
        "accuracy": judged,
        "results": results,
    }
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(tables(measured))
    if checked:
        limits.enforce(limits.int8, measured)


if __name__ == "__main__":
    typer.run(main)
