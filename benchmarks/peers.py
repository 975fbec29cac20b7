"""Compare CloFormer with models of its size: published accuracy over latency on one thread.

    make peers                                         # all of it, peers_deploy.py too
    python benchmarks/peers.py [--output FILE]         # measures what peers_export.py wrote, prints a table
    python benchmarks/peers.py --table FILE            # prints the table of a JSON file, in Markdown

With --plot FILE.svg it draws the results, with --page FILE.md it puts the table between the page's markers.

Peers are timm's, but for ShuffleNetV2 (torchvision's) and EdgeViT-XXS (edgevit.py). They are exported with the default
options of `torch.onnx.export`, as CloFormer's published form is, and timed as in latency.py, all in one process and
interleaved. Accuracies are not measured: peers.csv has timm's own, from its results-imagenet.csv (ImageNet-1k
validation, top-1 at the resolution that is timed), torchvision's, and EdgeViT's from its paper; CloFormer's are its
paper's, which nobody reproduced.
"""

import csv
import functools
import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks import latency, limits
from benchmarks.int8 import opened, write_int8
from benchmarks.peers_plot import draw
from benchmarks.peers_standing import CLOFORMER, INT8, LOWERED, PLAIN, Standing, ahead, standings
from benchmarks.speedups import speedups
from cloformer_deploy.backends.registry import backend_of
from cloformer_deploy.bundle.bundle import Bundle

PEERS = Path(__file__).with_name("peers.csv")
PAPER = {"xxs": 77.0, "xs": 79.8, "s": 81.6}
"""CloFormer's top-1, %, at 224 px, trained without a teacher: arXiv 2303.17803."""
FILES = dict(zip(CLOFORMER, ("onnx plain", "onnx", "tflite", "tflite int8"), strict=True))
"""File of each candidate, as `latency.export` names it."""
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "litert-torch", "onnxsim", "ai-edge-quantizer")
MOST_OFF = 1e-4
"""By how much logits may differ from PyTorch's, of the largest."""
MARKERS = ("<!-- benchmarks/peers.py -->\n", "<!-- end -->")


@dataclass(frozen=True)
class Timed:
    """A file to time, and how to know it computes the right thing.

    Attributes:
        variant: of CloFormer, or timm's name.
        side: of the input, pixels.
        candidate: runtime and kind of graph, as in latency.py.
        path: the file.
        expected: a file with PyTorch's logits; None of integers.
        checkpoints: trained weights of this graph, by name: `top1`, %, and whether `distilled`.
    """

    variant: str
    side: int
    candidate: str
    path: Path
    expected: Path | None
    checkpoints: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """Names it among all."""
        return f"{self.variant} {self.side} {self.candidate}"


def read_peers(folder: Path) -> list[Timed]:
    """The peers that `peers_export.py` wrote to a folder, each graph once."""
    checkpoints: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with PEERS.open(newline="") as file:
        for row in csv.DictReader(file):
            name, side = row["checkpoint"], int(row["side"])
            found = {"name": name, "top1": float(row["top1"]), "distilled": row["training"] == "distilled"}
            checkpoints.setdefault((name.split(".")[0], side), []).append(found)
    return [
        Timed(name, side, PLAIN, folder / f"{name}-{side}.onnx", folder / f"{name}-{side}.npy", tuple(found))
        for (name, side), found in checkpoints.items()
    ]


def read_deployed(peers: Iterable[Timed]) -> list[Timed]:
    """The files of the peers that `peers_deploy.py` wrote bundles of, beside their exports."""
    found = []
    for item in peers:
        root = item.path.with_suffix("")
        if not root.is_dir():
            continue
        bundle = Bundle.open(root)
        for artifact in bundle.manifest.artifacts:
            name = f"{artifact.format} {artifact.precision}".removesuffix(" fp32")
            candidate = {file: candidate for candidate, file in FILES.items()}.get(name)
            if candidate is not None:
                expected = None if "int8" in name else item.expected
                found.append(replace(item, candidate=candidate, path=bundle.path(artifact), expected=expected))
    return found


def export_cloformer(variant: str, folder: Path) -> list[Timed]:
    """A CloFormer, plain and as this tool deploys it."""
    files = latency.in_a_process(latency.export, variant, folder)
    files["tflite int8"] = folder / f"{variant}-int8.tflite"
    latency.in_a_process(write_int8, variant, "tflite", files["tflite int8"])
    expected = folder / f"{variant}.npy"
    latency.in_a_process(_write_logits, variant, expected)
    trained = ({"name": f"cloformer_{variant}", "top1": PAPER[variant], "distilled": False},)
    return [
        Timed(variant, latency.SIDE, candidate, files[name], None if "int8" in name else expected, trained)
        for candidate, name in FILES.items()
    ]


def _write_logits(variant: str, path: Path) -> None:
    with torch.inference_mode():
        np.save(path, latency.timed_model(variant)(torch.from_numpy(latency.noise(latency.SIDE))).numpy())


def measure(timed: list[Timed], repeats: int, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each repeat, by name, each of which is held against PyTorch first."""
    latency.keep_to(1)
    openers = {
        item.name: functools.partial(opened, item.candidate.split()[0], item.path, latency.noise(item.side))
        for item in timed
    }
    for item in timed:
        if item.expected is not None:
            expected = np.load(item.expected)
            (found,) = openers[item.name]()().values()
            off = float(np.abs(found - expected).max() / np.abs(expected).max())
            if not off <= MOST_OFF:
                raise RuntimeError(f"{item.name} is {off:.1e} from PyTorch")
    return latency.interleaved(openers, repeats, rounds)


def results(timed: Iterable[Timed], medians: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Return the records of all files."""
    found = []
    for item in timed:
        graph = backend_of(item.path).describe(item.path).graph
        found.append(
            {
                "variant": item.variant,
                "side": item.side,
                "threads": 1,
                "candidate": item.candidate,
                "macs": graph.macs,
                "parameters": graph.parameters,
                "checkpoints": item.checkpoints,
                **latency.figures(medians[item.name]),
            }
        )
    return found


def table(measured: Mapping[str, Any]) -> str:
    """The results in Markdown: where each CloFormer stands, all by latency, the conditions."""
    found = standings(measured)
    lines = [_sentence(variant, found, measured) for variant in PAPER]
    lines += [
        "",
        "| | px | GMAC | M params | top-1, % | with a teacher | ms | ahead |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(item, found) for item in found),
        "",
        *_deployed(measured),
    ]
    protocol = measured["protocol"]
    exporter = ", ".join(f"{name} {number}" for name, number in measured["peers_versions"].items())
    conditions = (
        f"{latency.circumstances(measured)} Peers exported with {exporter}. One thread, batch 1, random weights; "
        f"medians of {protocol['repeats']} repeats of {protocol['rounds']} rounds, interleaved."
    )
    return "\n".join([*lines, "", conditions])


def _deployed(measured: Mapping[str, Any]) -> list[str]:
    """Return the table of what is deployed by this tool: CloFormer and the nearest peers, the fastest in int8 first."""
    times: dict[tuple[str, int], dict[str, float]] = {}
    top1: dict[tuple[str, int], float] = {}
    for row in [*measured["results"], *measured["deployed"]]:
        graph = row["variant"], row["side"]
        times.setdefault(graph, {})[row["candidate"]] = row["ms"]
        top1[graph] = max(item["top1"] for item in row["checkpoints"])
    heads = "ONNX Runtime, plain | ONNX Runtime | LiteRT | LiteRT, int8 | int8 over plain"
    lines = [f"| deployed by this tool, ms | top-1, % | {heads} |", "|---|---|" + "---|" * (len(CLOFORMER) + 1)]
    whole = [graph for graph, found in times.items() if found.keys() == CLOFORMER.keys()]
    for graph in sorted(whole, key=lambda graph: times[graph][INT8]):
        title = f"**CloFormer-{graph[0]}**" if graph[0] in PAPER else f"`{graph[0]}`"
        cells = " | ".join(f"{times[graph][candidate]:.1f}" for candidate in CLOFORMER)
        gain = times[graph][PLAIN] / times[graph][INT8]
        lines.append(f"| {title} | {top1[graph]:.1f} | {cells} | {gain:.2f}x |")
    return lines


def _row(item: Standing, found: list[Standing]) -> str:
    counts = [str(len(ahead(item, found, teachers=teachers))) for teachers in (False, True)]
    if item.top1 is None:
        counts[0] = "-"
    cells = [
        f"**{item.title}**" if item.cloformer else f"`{item.title}`",
        str(item.side),
        "" if item.macs is None else f"{item.macs / 1e9:.2f}",
        f"{item.parameters / 1e6:.1f}",
        *("" if item.quantized or value is None else f"{value:.1f}" for value in (item.top1, item.distilled)),
        f"{item.ms:.1f}",
        "" if item.quantized else ", ".join(counts),
    ]
    return "| " + " | ".join(cells) + " |"


def _sentence(variant: str, found: list[Standing], measured: Mapping[str, Any]) -> str:
    plain, lowered = (
        next(item for item in found if (item.variant, item.candidate) == (variant, candidate))
        for candidate in (PLAIN, LOWERED)
    )
    speedup = statistics.median(speedups(measured, variant, 1, LOWERED, PLAIN))
    counts = [len(ahead(item, found, teachers=teachers)) for teachers in (False, True) for item in (plain, lowered)]
    text = (
        f"- **CloFormer-{variant}**, {lowered.top1:.1f} %: {plain.ms:.1f} ms plain, {lowered.ms:.1f} ms lowered "
        f"({speedup:.2f}x). Peers at least as fast and as accurate: without a teacher {counts[0]}, {counts[1]} once it "
        f"is lowered; with teachers {counts[2]}, {counts[3]}."
    )
    if counts[1]:
        best = ahead(lowered, found, teachers=False)[0]
        text += f" The fastest, without a teacher: `{best.title}`, {best.side} px, {best.ms:.1f} ms, {best.top1:.1f} %."
    return text


def fill(page: Path, text: str) -> None:
    """Put a text between the markers of a page."""
    before, rest = page.read_text().split(MARKERS[0])
    page.write_text(before + MARKERS[0] + text + "\n" + MARKERS[1] + rest.split(MARKERS[1])[1])


def main(
    models: Annotated[Path, typer.Option(help="What peers_export.py wrote.")] = Path("exports/peers"),
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the results here, SVG.")] = None,
    page: Annotated[Path | None, typer.Option(help="Put the table between this page's markers.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's table, and measure nothing.")
    ] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Measure, write, draw, print. The exit code is 1 if a limit is not held."""
    if from_file is not None:
        measured = json.loads(from_file.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            timed = [item for variant in PAPER for item in export_cloformer(variant, Path(folder))]
            peers = read_peers(models)
            deployed = read_deployed(peers)
            medians = latency.in_a_process(measure, timed + peers + deployed, repeats, rounds)
            measured = {
                "schema_version": 1,
                "machine": latency.machine(),
                "versions": {package: version(package) for package in PACKAGES},
                "peers_versions": json.loads((models / "versions.json").read_text()),
                "protocol": {"repeats": repeats, "rounds": rounds},
                "results": results(timed + peers, medians),
                "deployed": results(deployed, medians),
            }
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    if plot is not None:
        draw(standings(measured), plot)
    if page is not None:
        fill(page, table(measured))
    print(table(measured))
    if checked:
        limits.enforce(limits.peers, measured)


if __name__ == "__main__":
    typer.run(main)
