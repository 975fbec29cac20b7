"""Core AI: files of xxs, xs and s in Apple's interpreter, compared with PyTorch on photographs; what they cost.

    python benchmarks/core_ai.py --photographs DIR [--output FILE]   # measures, going on from FILE; prints tables
    python benchmarks/core_ai.py --table FILE                       # prints the tables of a JSON file, in Markdown

xxs has the bundled weights of photographs, calibrated with `DIR/calib224`; xs and s have random weights. `DIR/drift224`
is judged. Core ML's int8 file, in this package's interpreter, is beside Core AI's. Times are those of an interpreter.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from benchmarks import latency, limits
from benchmarks.variants import TRAINED, weights_of
from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration, probe_images
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import validate

VARIANTS = ("xxs", "xs", "s")
TIMED = ("fp32", "fp16", "int8")
RUNS = 4
GATE = 1000
"""Images of a gate, whose cost is told."""
PACKAGES = ("torch", "coreai-core", "coreai-torch", "coremltools")
Wanted = tuple[str, str, tuple[str, ...], int]
WANTED: tuple[Wanted, ...] = (
    ("xxs", "coreai", ("fp32",), 300),
    ("xs", "coreai", ("fp32", "fp16"), 50),
    ("s", "coreai", ("fp32", "fp16"), 50),
    ("xxs", "coreml", ("int8",), 1000),
    ("xxs", "coreai", ("fp16",), 300),
    ("xxs", "coreai", ("int8",), 1000),
    ("xxs", "coreai", ("w8", "p8", "p6"), 50),
)
"""Variant, format and precisions of files, and on how many photographs they are judged."""


def file(variant: str, name: str, precisions: tuple[str, ...], photographs: Path, folder: Path) -> Bundle:
    """Export files of a variant in one format."""
    weights, labels = weights_of(variant, photographs, folder)
    calibration = None
    if "int8" in precisions:
        calibration = folder / "set"
        if not calibration.exists():
            size = Preprocessing.published(latency.SIDE, latency.SIDE)
            make_calibration(str(photographs / "calib224"), 320, 0, size, calibration, Silent())
    output = folder / "-".join((variant, name, *precisions))
    request = ExportRequest((name,), precisions, weights, labels=labels, calibration=calibration, output=output)
    return export(request, Silent()).bundle


def judged(wanted: Wanted, bundle: Bundle, photographs: Path) -> Iterator[dict[str, Any]]:
    """Yield the comparison of each file with PyTorch."""
    variant, name, _, count = wanted
    trained = variant == TRAINED
    data = photographs / "drift224" if trained else _unlabeled(photographs, count, bundle.root.parent)
    for item in validate(bundle, data, count, Silent()).artifacts:
        found = item.found
        if found is None:
            raise RuntimeError(f"{item.path} was not executed")
        yield {
            "variant": variant,
            "format": name,
            "precision": item.precision,
            "n": found.n,
            "agreement": found.agreement,
            "sqnr_db": found.sqnr_db,
            "max_abs_diff": found.max_abs_diff,
            "top1": found.score if trained else None,
            "drop_pp": found.drop_pp if trained else None,
        }


def _unlabeled(photographs: Path, count: int, folder: Path) -> Path:
    """Copy photographs of all classes into one folder, for networks of other classes."""
    flat = folder / f"photographs-{count}"
    flat.mkdir(exist_ok=True)
    files = sorted(path for path in (photographs / "drift224").rglob("*") if path.is_file())
    for index in range(count):
        path = files[index * len(files) // count]
        shutil.copyfile(path, flat / f"{index}{path.suffix}")
    return flat


def timed(variant: str, bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Yield the processor's time that loading each file and running it once take, in one process."""
    image = bundle.manifest.preprocessing.normalize(probe_images(1, bundle.manifest.preprocessing))
    feed = {INPUT_NAME: image}
    for artifact in bundle.manifest.artifacts:
        processes = process.Processes(bundle.path(artifact), 1)
        before_s = _children_s()
        processes.run([feed])
        loaded_s = _children_s()
        processes.run([feed] * RUNS)
        image_s = (_children_s() - loaded_s) / RUNS
        yield {
            "variant": variant,
            "precision": artifact.precision,
            "bytes": artifact.bytes,
            "rss_bytes": max(child.memory_info().rss for child in psutil.Process().children()),
            "load_cpu_s": loaded_s - before_s - image_s,
            "image_cpu_s": image_s,
        }


def _children_s() -> float:
    """Return the processor's time of all processes that this one has started, in seconds."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    return float(sum(item.user + item.system for item in times))


def _others(rows: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of other files than the new ones."""
    files = {(row["variant"], row.get("format"), row["precision"]) for row in new}
    return [row for row in rows if (row["variant"], row.get("format"), row["precision"]) not in files]


def _done(wanted: Wanted, measured: Mapping[str, Any]) -> bool:
    variant, name, precisions, count = wanted
    rows = {(row["variant"], row["format"], row["precision"], row["n"]) for row in measured["judged"]}
    return all((variant, name, precision, count) in rows for precision in precisions)


def tables(measured: Mapping[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [
        "| file | photographs | agreement | SQNR, dB | max difference | top-1 | drop, pp |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured["judged"]:
        named = f"{row['variant']} {row['format']} {row['precision']} | {row['n']} | {row['agreement']:.1%}"
        figures = f"{row['sqnr_db']:.1f} | {row['max_abs_diff']:.1e}"
        accuracy = "- | -" if row["top1"] is None else f"{row['top1']:.1%} | {row['drop_pp']:.2f}"
        lines.append(f"| {named} | {figures} | {accuracy} |")
    lines += [
        "",
        f"| Apple's interpreter | MB | of memory, MB | load, CPU s | an image, CPU s | {GATE:,} images, CPU minutes |",
        "|---|---|---|---|---|---|",
    ]
    for row in measured["timed"]:
        sizes = f"{row['bytes'] / 1e6:.1f} | {row['rss_bytes'] / 1e6:.0f}"
        seconds = f"{row['load_cpu_s']:.1f} | {row['image_cpu_s']:.2f} | {row['image_cpu_s'] * GATE / 60:.0f}"
        lines.append(f"| {row['variant']} {row['precision']} | {sizes} | {seconds} |")
    packages = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    lines += ["", f"224 x 224 px, batch 1, x86-64; {packages}."]
    return "\n".join(lines)


def main(
    photographs: Annotated[Path | None, typer.Option(help="Folder with `calib224` and `drift224`.")] = None,
    variants: Annotated[list[str], typer.Option("--variant")] = [*VARIANTS],  # noqa: B006 - typer's default
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's tables, and measure nothing.")
    ] = None,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    if from_file is not None:
        measured = json.loads(from_file.read_text())
    elif photographs is None:
        raise typer.BadParameter("give --photographs DIR, or --table FILE")
    else:
        measured = {"schema_version": 1, "versions": {package: version(package) for package in PACKAGES}}
        measured |= {"judged": [], "timed": []}
        if output is not None and output.exists():  # goes on from what it holds
            kept = json.loads(output.read_text())
            measured = kept if kept["versions"] == measured["versions"] else measured
        with tempfile.TemporaryDirectory() as name:
            for wanted in WANTED:
                variant, form, precisions, _ = wanted
                if variant not in variants or _done(wanted, measured):
                    continue
                bundle = file(variant, form, precisions, photographs, Path(name))
                if set(precisions) & set(TIMED) and form == "coreai":
                    taken = list(timed(variant, bundle))
                    measured["timed"] = [*_others(measured["timed"], taken), *taken]
                found = list(judged(wanted, bundle, photographs))
                measured["judged"] = [*_others(measured["judged"], found), *found]
                for part in ("judged", "timed"):
                    measured[part].sort(key=lambda row: VARIANTS.index(row["variant"]))
                if output is not None:
                    output.write_text(json.dumps(measured, indent=1) + "\n")
    print(tables(measured))
    limits.enforce(limits.coreai, measured)


if __name__ == "__main__":
    typer.run(main)
