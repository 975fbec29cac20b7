"""Cost of a head for dense tasks, and the speedup of int8 with it, in LiteRT on one thread.

    python benchmarks/heads.py [--weights NAME] [--output FILE]   # measures, writes JSON, prints a table
    python benchmarks/heads.py --table FILE                       # prints the table of a JSON file, in Markdown

Three files of the same weights at the published size are timed side by side, as in latency.py: the body alone in
lowered float32, body and head in lowered float32, and body and head in int8.
"""

import functools
import json
import statistics
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import latency, limits
from benchmarks.int8 import opened
from benchmarks.speedups import speedups
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest, Head
from cloformer_deploy.progress import Silent

DENSE = ("xxs-scenes-segment", "xxs-scenes-detect")
CANDIDATES = {"body": "body, float32", "float32": "body and head, float32", "int8": "**body and head, int8**"}
PACKAGES = ("torch", "ai-edge-litert", "litert-torch", "ai-edge-quantizer")


def files(weights: str, calibration: Path | None, folder: Path) -> dict[str, Path]:
    """Export the three files, by candidate."""
    found: dict[str, Path] = {}
    wanted: tuple[tuple[Head, Mapping[str, str]], ...] = (
        ("none", {"body": "fp32"}),
        ("keep", {"float32": "fp32", "int8": "int8"}),
    )
    for head, precisions in wanted:
        request = ExportRequest(
            ["tflite"],
            tuple(precisions.values()),
            weights,
            head=head,
            calibration=calibration if "int8" in precisions.values() else None,
            output=folder / head,
        )
        bundle = export(request, Silent()).bundle
        paths = {item.precision: bundle.path(item) for item in bundle.manifest.artifacts}
        found |= {candidate: paths[precision] for candidate, precision in precisions.items()}
    return found


def speed(weights: str, calibration: Path | None, repeats: int, rounds: int) -> dict[str, list[float]]:
    """Return the median milliseconds of each repeat, by candidate."""
    with tempfile.TemporaryDirectory() as folder:
        return latency.in_a_process(_interleaved, files(weights, calibration, Path(folder)), repeats, rounds)


def _interleaved(paths: Mapping[str, Path], repeats: int, rounds: int) -> dict[str, list[float]]:
    image = latency.noise(latency.SIDE)
    latency.keep_to(1)
    openers = {name: functools.partial(opened, "litert", path, image) for name, path in paths.items()}
    return latency.interleaved(openers, repeats, rounds)


def table(measured: Mapping[str, Any]) -> str:
    """Return the results in Markdown."""
    names = list(dict.fromkeys(item["variant"] for item in measured["results"]))
    ms = {(item["variant"], item["candidate"]): item["ms"] for item in measured["results"]}
    lines = [f"| ms, 1 thread | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for candidate, title in CANDIDATES.items():
        lines.append(f"| {title} | " + " | ".join(f"{ms[name, candidate]:.1f}" for name in names) + " |")
    costs = [statistics.median(speedups(measured, name, 1, "body", "float32")) - 1 for name in names]
    gains = [statistics.median(speedups(measured, name, 1, "int8", "float32")) for name in names]
    lines.append("| the head adds | " + " | ".join(f"{cost:.1%}" for cost in costs) + " |")
    lines.append("| int8 over float32, body and head | " + " | ".join(f"{gain:.2f}x" for gain in gains) + " |")
    protocol = measured["protocol"]
    conditions = (
        f"{latency.circumstances(measured)} LiteRT, {protocol['side']} x {protocol['side']} px, batch 1; medians of "
        f"{protocol['repeats']} repeats of {protocol['rounds']} rounds, interleaved; ratios are within a repeat."
    )
    return "\n".join([*lines, "", conditions])


def main(
    weights: Annotated[list[str], typer.Option(help="Weights with a head for dense tasks.")] = [*DENSE],  # noqa: B006 - typer reads it as the default
    calibration: Annotated[Path | None, typer.Option(help="Calibration set of weights that are not bundled.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's table, and measure nothing.")
    ] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Measure, write, print. The exit code is 1 if a limit is not held."""
    if from_file is None:
        results = [
            {"variant": Path(name).stem, "threads": 1, "candidate": candidate, **latency.figures(medians)}
            for name in weights
            for candidate, medians in speed(name, calibration, repeats, rounds).items()
        ]
        measured = {
            "schema_version": 1,
            "machine": latency.machine(),
            "versions": {package: version(package) for package in PACKAGES},
            "protocol": {"repeats": repeats, "rounds": rounds, "side": latency.SIDE},
            "results": results,
        }
        if output is not None:
            output.write_text(json.dumps(measured, indent=1) + "\n")
    else:
        measured = json.loads(from_file.read_text())
    print(table(measured))
    if checked:
        limits.enforce(limits.heads, measured)


if __name__ == "__main__":
    typer.run(main)
