"""Time everyday commands: `export` beside the bare converters, int8 beside float32, `validate` beside the runtimes.

    python benchmarks/everyday.py [--output FILE] [--images N]    # measures, writes JSON, prints a table
    python benchmarks/everyday.py --table FILE                    # prints the table of a JSON file, in Markdown

Commands and converters run as a user runs them, in processes of their own, on all cores; each is measured `--repeats`
times, in turn, and the median is taken. The bare converters get the lowered model from a script that does nothing else,
all three formats side by side.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import latency, limits
from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import lower, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, RenderedImages
from cloformer_deploy.system.cores import usable_cores

FORMATS = ("onnx", "coreml", "tflite")
WEIGHTS = "xxs-rendered"
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "litert-torch", "onnxsim", "coremltools", "ai-edge-quantizer")
_BATCH = 16


def command(*arguments: str) -> None:
    """Run a command of the tool, whose answer does not matter."""
    made = [sys.executable, "-m", "cloformer_deploy", *arguments, "--json"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def export(precision: str, folder: Path) -> None:
    """Export three formats."""
    formats = [word for name in FORMATS for word in ("--format", name)]
    command("export", *formats, "--precision", precision, "--output", str(folder / precision), "--overwrite")


def bare(folder: Path) -> None:
    """Run the three converters alone, as many at a time as there are cores."""

    def one(name: str) -> None:
        code = f"from benchmarks.everyday import convert; convert({name!r}, {str(folder / f'bare-{name}')!r})"
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(one, FORMATS))


def convert(name: str, path: str) -> None:
    """Convert the lowered model, and nothing else; the script of one process."""
    target = "ane" if name == "coreml" else "cpu"
    suffix = {"onnx": ".onnx", "coreml": ".mlpackage", "tflite": ".tflite"}[name]
    latency.convert(name, lower(latency.timed_model(WEIGHTS), name, target), Path(path + suffix))


def validate(folder: Path, images: int) -> None:
    """Validate the float32 bundle: PyTorch and three formats."""
    command("validate", str(folder / "fp32"), "--limit", str(images))


def runtimes(folder: Path, images: int) -> None:
    """Run PyTorch and the three runtimes alone on the same images, which are rendered and normalized before."""
    code = f"from benchmarks.everyday import infer; infer({str(folder / 'fp32')!r}, {images})"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def infer(root: str, images: int) -> None:
    """Run every artifact of a bundle and PyTorch on images, one after the other; the script of one process."""
    import torch

    bundle = Bundle.open(Path(root))
    size = Preprocessing.published(latency.SIDE, latency.SIDE)
    batches = [size.normalize(item.pixels) for item in RenderedImages("test", range(images)).batches(size, _BATCH)]
    model = latency.timed_model(WEIGHTS)
    with torch.inference_mode():
        for batch in batches:
            model(torch.from_numpy(batch))
    for artifact in bundle.manifest.artifacts:
        session = runtime_for(artifact.format).open(bundle.path(artifact), threads=usable_cores())
        for batch in batches:
            for image in batch:
                session.run({INPUT_NAME: image[None]})


def blame(folder: Path) -> None:
    """Blame an int8 file, with the search for a fix."""
    command("blame", str(folder / "int8" / "cloformer_xxs-int8.tflite"))


def seconds(action: Callable[..., None], *arguments: Any) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - begun


def measure(images: int, repeats: int) -> dict[str, Any]:
    """Measure everything in turn, and return seconds by name."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps: Sequence[tuple[str, Callable[..., None], tuple[Any, ...]]] = (
            ("bare converters", bare, (folder,)),
            ("export fp32", export, ("fp32", folder)),
            ("export int8", export, ("int8", folder)),
            ("bare runtimes", runtimes, (folder, images)),
            ("validate", validate, (folder, images)),
            ("blame int8", blame, (folder,)),
        )
        for _ in range(repeats):
            for title, action, arguments in steps:
                found.setdefault(title, []).append(seconds(action, *arguments))
    return {
        "schema_version": 1,
        "cores": usable_cores(),
        "images": images,
        "versions": {package: version(package) for package in PACKAGES},
        "seconds": found,
    }


def table(measured: Mapping[str, Any]) -> str:
    """Return the results in Markdown."""
    taken = {name: statistics.median(values) for name, values in measured["seconds"].items()}
    lines = ["| | s | |", "|---|---|---|"]
    beside = {
        "export fp32": ("bare converters", "times the bare converters"),
        "export int8": ("export fp32", "times the float32 export"),
        "validate": ("bare runtimes", "times the bare runtimes"),
    }
    for name, value in taken.items():
        other, words = beside.get(name, (None, ""))
        ratio = "" if other is None else f"{value / taken[other]:.2f} {words}"
        lines.append(f"| {name} | {value:.0f} | {ratio} |")
    repeats = len(next(iter(measured["seconds"].values())))
    packages = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    conditions = f"{measured['images']} images; {measured['cores']} cores; median of {repeats}"
    lines += ["", f"{WEIGHTS}, three formats, {conditions}."]
    return "\n".join([*lines, f"{packages}."])


def main(
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    images: Annotated[int, typer.Option(help="Images of validate.")] = 400,
    repeats: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
    from_file: Annotated[Path | None, typer.Option("--table", help="Print this file's table, measure nothing.")] = None,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    measured = json.loads(from_file.read_text()) if from_file is not None else measure(images, repeats)
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(table(measured))
    limits.enforce(limits.everyday, measured)


if __name__ == "__main__":
    typer.run(main)
