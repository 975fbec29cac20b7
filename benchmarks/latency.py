"""Measure the speedup of lowering: latency of plain and lowered graphs and of their alternatives, side by side.

    python benchmarks/latency.py [--output FILE]       # measures, writes JSON, prints a table
    python benchmarks/latency.py --table FILE          # prints the table of a JSON file, in Markdown

Every candidate computes the same model on the same input. A repeat opens all of them anew, in random order (where a
runtime's memory comes to lie is worth 2 %), and runs them in turn; its figure is the median of the rounds, and what is
reported the median of the repeats, with the distance of the farthest.
"""

import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks import limits
from benchmarks.published import published_form
from benchmarks.speedups import speedups
from cloformer_deploy.backends.base import INPUT_NAME, ExportSpec
from cloformer_deploy.backends.registry import BACKENDS, backend_of, lower
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks.cloformer import CloFormer, create_model
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import bundled_checkpoints, resolve_weights

if TYPE_CHECKING:
    from cloformer_deploy.quantization.preparation import Prepared

Run = Callable[[], Any]
Result = TypeVar("Result")
SIDE = 224
REST_S = 0.03
"""Between candidates: the threads of a runtime go on spinning for a while, on a core the next one needs."""
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "openvino", "litert-torch", "onnxsim")
CANDIDATES = {
    "torch": "torch eager",
    "onnxruntime plain": "ONNX Runtime, plain export",
    "openvino plain": "OpenVINO, plain export",
    "litert plain": "LiteRT, plain 4-D export",
    "onnxruntime": "**ONNX Runtime, lowered**",
    "litert": "**LiteRT, lowered**",
    "roofline": "multiply-accumulates at the best GEMM rate",
}


RUNTIMES = {runtime.name: runtime for backend in BACKENDS.values() for runtime in backend.runtimes}


def in_a_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a process of its own: nobody inherits another's threads, or its notion of the cores."""
    # Its standard output goes where errors go: converters print what they do.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os.dup2, (2, 1)) as pool:
        return pool.submit(function, *arguments).result()


def timed_model(name: str) -> CloFormer:
    """A bundled model, that of a weights file, or a variant with seeded random weights."""
    if name in bundled_checkpoints() or Path(name).is_file():
        return cast(CloFormer, build_model(load_checkpoint(resolve_weights(name))))
    torch.manual_seed(0)
    return create_model(name).eval()


def export(variant: str, folder: Path) -> dict[str, Path]:
    """The files of `timed_model`: plain as a user gets them, and lowered."""
    stem = Path(variant).stem
    files = {
        "onnx plain": folder / f"{stem}-plain.onnx",
        "tflite plain": folder / f"{stem}-plain.tflite",
        "onnx": folder / f"{stem}.onnx",
        "tflite": folder / f"{stem}.tflite",
    }
    # The published form with default options: what torch.onnx.export gives to someone with the authors' repository.
    torch.onnx.export(
        published_form(timed_model(variant)),
        (torch.zeros(1, 3, SIDE, SIDE),),
        files["onnx plain"],
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    # In LiteRT that form cannot run, for its converter makes mistakes with five axes.
    convert("tflite", timed_model(variant), files["tflite plain"])
    for name in ("onnx", "tflite"):
        convert(name, lower(timed_model(variant), name, "cpu"), files[name])
    return files


def convert(format_name: str, model: torch.nn.Module, path: Path) -> None:
    """Write a model as float32 in a format."""
    backend = BACKENDS[format_name]
    list(backend.convert(spec_of(format_name, model), {"fp32": path}, Silent()))


def spec_of(format_name: str, model: torch.nn.Module, prepared: "Prepared | None" = None) -> ExportSpec:
    """Return the spec of a classifier's file, at the benchmarks' input size."""
    task = TASKS["classification"]
    return ExportSpec(
        model=model,
        title="benchmark",
        outputs=task.outputs,
        class_logits=task.class_logits,
        pixel_logits=task.pixel_logits,
        cells=task.cells,
        scores="softmax",
        preprocessing=Preprocessing.published(SIDE, SIDE),
        input_kind="tensor",
        batch=1,
        labels=None,
        metadata={},
        options=BACKENDS[format_name].options(),
        quantized=prepared,
    )


def openers(
    model: CloFormer, files: Mapping[str, Path], image: NDArray[np.float32], threads: int
) -> dict[str, Callable[[], Run]]:
    """For each candidate, what opens it and gives a call that computes the logits of `image`."""
    found: dict[str, Callable[[], Run]] = {
        "torch": lambda: lambda: model(torch.from_numpy(image)).numpy(),
        "openvino plain": lambda: _openvino(files["onnx plain"], image, threads),
    }
    for runtime, format_name in (("onnxruntime", "onnx"), ("litert", "tflite")):
        for kind in ("", " plain"):
            found[runtime + kind] = functools.partial(_session, runtime, files[format_name + kind], image, threads)
    return found


def _session(runtime: str, path: Path, image: NDArray[np.float32], threads: int) -> Run:
    session = RUNTIMES[runtime].open(path, threads)
    return lambda: session.run({INPUT_NAME: image})["logits"]


def _openvino(path: Path, image: NDArray[np.float32], threads: int) -> Run:
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", options)
    request = model.create_infer_request()
    return lambda: request.infer({0: image})[model.output(0)]


def noise(side: int) -> NDArray[np.float32]:
    """Return the normalized image on which every candidate is timed, (1, 3, side, side) float32."""
    return np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)


def measure(variant: str, files: Mapping[str, Path], threads: int, repeats: int, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each repeat, by candidate, each of which is held against PyTorch first."""
    model = timed_model(variant)
    image = noise(SIDE)
    keep_to(threads)
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
        candidates = openers(model, files, image, threads)
        for name, opener in candidates.items():
            difference = float(np.abs(opener()() - expected).max())
            if not difference <= 1e-4:
                raise RuntimeError(f"{name} is {difference:.1e} from PyTorch")
        return interleaved(candidates, repeats, rounds)


def interleaved(candidates: Mapping[str, Callable[[], Run]], repeats: int, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each repeat, by candidate; see the top of this file."""
    medians: dict[str, list[float]] = {}
    for _ in range(repeats):
        runs = {name: candidates[name]() for name in random.sample(list(candidates), len(candidates))}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                time.sleep(REST_S)
                run()  # what the one before left in the caches is not this one's doing
                start = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - start))
        for name, values in times.items():
            medians.setdefault(name, []).append(statistics.median(values))
    return medians


def keep_to(threads: int) -> None:
    """Let torch use so many threads, and the process so many cores: the last, the first being the busier."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(CORES)[-threads:])


def gemm_macs_per_ms(threads: int) -> float:
    """The best rate of a float32 matrix product in torch, over sizes like those of the 1x1 convolutions and larger."""
    keep_to(threads)
    best = 0.0
    with torch.inference_mode():
        for rows, inner, columns in ((196, 512, 512), (784, 256, 256), (512, 512, 512), (1024, 1024, 1024)):
            a, b = torch.randn(rows, inner), torch.randn(inner, columns)
            for _ in range(30):
                start = time.perf_counter()
                torch.mm(a, b)
                elapsed_ms = 1e3 * (time.perf_counter() - start)
                best = max(best, rows * inner * columns / elapsed_ms)
    return best


def machine() -> dict[str, str]:
    """The processor, and how much of it there is."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    fields = dict(line.split("\t: ", 1) for line in text.replace("\t\t", "\t").splitlines() if "\t: " in line)
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "asimd": "Neon"}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "processor": fields.get("model name", platform.processor() or platform.machine()),
        "instructions": ", ".join(name for flag, name in names.items() if flag in flags),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def figures(medians: list[float]) -> dict[str, Any]:
    """Return the record of the medians of the repeats, ms."""
    return {"ms": round(statistics.median(medians), 3), "repeats_ms": [round(value, 3) for value in medians]}


def circumstances(measured: Mapping[str, Any]) -> str:
    """The machine and the packages of a measurement, in a sentence."""
    about = measured["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    return (
        f"{about['processor']} ({about['instructions']}), {about['cores']} cores, {about['system']}, "
        f"Python {about['python']}; {packages}."
    )


def table(measured: Mapping[str, Any]) -> str:
    """The results in Markdown: milliseconds, and how many times as fast as the plain export on the same runtime."""
    results = {(item["variant"], item["threads"], item["candidate"]): item for item in measured["results"]}
    columns = list(dict.fromkeys((variant, threads) for variant, threads, _ in results))
    lines = [
        "| ms, float32 | " + " | ".join(f"{name}, {n} thread{'s' * (n > 1)}" for name, n in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for candidate, title in CANDIDATES.items():
        cells = []
        for variant, threads in columns:
            cell = f"{results[variant, threads, candidate]['ms']:.1f}"
            if f"{candidate} plain" in CANDIDATES:
                speedup = statistics.median(speedups(measured, variant, threads, candidate, f"{candidate} plain"))
                cell += f" (**{speedup:.2f}x**)"
            cells.append(cell)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _conditions(measured, columns)])


def _conditions(measured: Mapping[str, Any], columns: list[tuple[str, int]]) -> str:
    protocol = measured["protocol"]
    spread = max(
        _spread(speedups(measured, variant, threads, runtime, f"{runtime} plain"))
        for (variant, threads), runtime in itertools.product(columns, ("onnxruntime", "litert"))
        if threads == 1
    )
    return (
        f"{circumstances(measured)} {protocol['side']} x {protocol['side']} px, batch 1, random weights; "
        f"medians of {protocol['repeats']} repeats of {protocol['rounds']} rounds, interleaved; ratios are within a "
        f"repeat. With one thread the middle half of a ratio's repeats lies within {100 * spread:.1f} %."
    )


def _spread(ratios: list[float]) -> float:
    """Return the spread of the middle half of figures: largest over smallest, less 1."""
    outer = len(ratios) // 4
    middle = sorted(ratios)[outer : len(ratios) - outer]
    return middle[-1] / middle[0] - 1


def main(
    variants: Annotated[list[str], typer.Option("--variant")] = ["xxs", "s"],  # noqa: B006 - typer reads it as the default
    threads: Annotated[list[int], typer.Option()] = [1, 2],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's table, and measure nothing.")
    ] = None,
    kept: Annotated[Path | None, typer.Option("--files", help="Keep the measured files in this folder.")] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    if from_file is not None:
        measured = json.loads(from_file.read_text())
        print(table(measured))
        if checked:
            limits.enforce(limits.latency, measured)
        return
    results = []
    with tempfile.TemporaryDirectory() if kept is None else contextlib.nullcontext(kept) as folder:
        for variant in variants:
            files = in_a_process(export, variant, Path(folder))
            macs = backend_of(files["onnx plain"]).describe(files["onnx plain"]).graph.macs or 0
            for count in threads:
                medians = in_a_process(measure, variant, files, count, repeats, rounds)
                medians["roofline"] = [macs / in_a_process(gemm_macs_per_ms, count)]
                results += [
                    {
                        "variant": variant,
                        "threads": count,
                        "candidate": candidate,
                        **figures(medians[candidate]),
                    }
                    for candidate in CANDIDATES
                ]
    measured = {
        "schema_version": 1,
        "machine": machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "protocol": {"repeats": repeats, "rounds": rounds, "side": SIDE},
        "results": results,
    }
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(table(measured))
    if checked:
        limits.enforce(limits.latency, measured)


if __name__ == "__main__":
    typer.run(main)
