"""NPUs: what their compilers and simulators say of int8 and w8a16 files of xxs, xs and s.

    python benchmarks/npus.py --photographs DIR [--variant V] [--output FILE]   # measures, writes JSON, prints tables
    python benchmarks/npus.py --table FILE                        # prints the tables of a JSON file, in Markdown

xxs has the bundled weights of photographs, calibrated with `DIR/calib224` and judged on `DIR/drift224`; xs and s have
random weights, so of them only numbers are compared. Nothing here is a latency: Vela's times are estimates.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import latency, limits
from benchmarks.variants import TRAINED, weights_of
from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, open_folder
from cloformer_deploy.data.calibration_making import make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.npu import NPUS
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import validate

VARIANTS = ("xxs", "xs", "s")
HEXAGONS = ("hexagon-v73", "hexagon-v75", "hexagon-v79")
SIMULATED = "hexagon-v75"
ETHOS_US = tuple(name for name in NPUS if name.startswith("ethos"))
CLASSES = 10
COMPARED = 20
"""Photographs on which the simulator's outputs are compared with ONNX Runtime's."""
JUDGED = 100
"""Photographs on which the simulator's classes are compared with PyTorch's."""
PACKAGES = ("torch", "onnxruntime", "onnxruntime-qnn", "ethos-u-vela", "litert-torch", "ai-edge-quantizer")


def files(variant: str, photographs: Path, calibration: Path, folder: Path) -> dict[str, Bundle]:
    """Export the files of a variant, by target."""
    weights, labels = weights_of(variant, photographs, folder)
    found = {}
    for name, target, precisions, integer_io in (
        ("onnx", "hexagon", ("int8", "w8a16"), False),
        ("tflite", "ethos-u", ("int8",), True),
    ):
        request = ExportRequest(
            [name],
            precisions,
            weights,
            labels=labels,
            target=target,
            options={"integer_io": integer_io},
            calibration=calibration,
            output=folder / f"{variant}-{target}",
        )
        found[target] = export(request, Silent()).bundle
    return found


def compiled(variant: str, bundle: Bundle, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what each NPU's compiler says of each file."""
    for artifact in bundle.manifest.artifacts:
        for name in names:
            said = NPUS[name].compile(bundle.path(artifact))
            estimate = said.estimate
            yield {
                "variant": variant,
                "precision": artifact.precision,
                "device": name,
                "operators": sum(item.count for item in said.placement),
                "left_on_cpu": said.left_on_cpu,
                "bytes": said.bytes,
                "estimated_ms": None if estimate is None else estimate.ms,
                "memory_bytes": None if estimate is None else dict(estimate.memory_bytes),
                "assumes": None if estimate is None else estimate.assumes,
            }


def simulated(variant: str, bundle: Bundle, photographs: Path) -> Iterator[dict[str, Any]]:
    """Yield how near the simulator is to ONNX Runtime, and for trained weights to PyTorch's classes."""
    npu = NPUS[SIMULATED]
    preprocessing = bundle.manifest.preprocessing
    folder = open_folder(photographs / "drift224", CLASSES, None)
    every = folder.select([len(folder) * index // COMPARED for index in range(COMPARED)])
    (batch,) = every.batches(preprocessing, COMPARED)
    images = preprocessing.normalize(batch.pixels)
    judged: dict[str, Any] = {}
    if variant == TRAINED:
        found = validate(bundle, photographs / "drift224", JUDGED, Silent(), npu)
        for item in found.artifacts:
            if item.found is not None:
                judged[item.precision] = item.found
    for artifact in bundle.manifest.artifacts:
        path = bundle.path(artifact)
        assert npu.simulator is not None
        here = runtime_for("onnx").open(path)
        expected = np.concatenate([here.run({INPUT_NAME: image[None]})["logits"] for image in images])
        logits = npu.simulator.open(path).run({INPUT_NAME: images})["logits"]
        compared = judged.get(artifact.precision)
        yield {
            "variant": variant,
            "precision": artifact.precision,
            "device": SIMULATED,
            "cosine": _cosine(np.asarray(logits), expected),
            "n": None if compared is None else compared.n,
            "agreement": None if compared is None else compared.agreement,
            "sqnr_db": None if compared is None else compared.sqnr_db,
        }


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the cosine of all outputs of all images."""
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


def tables(measured: Mapping[str, Any]) -> str:
    """Return the results in Markdown."""
    rows, runs = measured["compiled"], {(item["variant"], item["precision"]): item for item in measured["simulated"]}
    lines = [
        "| Hexagon | left on the CPU, V73, V75, V79 | MB, V75 | cosine | agreement | SQNR, dB |",
        "|---|---|---|---|---|---|",
    ]
    for (variant, precision), run in runs.items():
        mine = [r for r in rows if (r["variant"], r["precision"]) == (variant, precision) and r["device"] in HEXAGONS]
        left = ", ".join(str(row["left_on_cpu"]) for row in mine)
        size = next(row["bytes"] for row in mine if row["device"] == SIMULATED) / 1e6
        agreement = "-" if run["agreement"] is None else f"{run['agreement']:.1%} of {run['n']}"
        sqnr = "-" if run["sqnr_db"] is None else f"{run['sqnr_db']:.1f}"
        lines.append(f"| {variant} {precision} | {left} | {size:.1f} | {run['cosine']:.5f} | {agreement} | {sqnr} |")
    names = [name for name in ETHOS_US if any(row["device"] == name for row in rows)]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines += ["", f"| Ethos-U, int8: estimated ms (operators on the CPU) | {' | '.join(variants)} | of |"]
    lines.append("|---|" + "---|" * (len(variants) + 1))
    for name in names:
        mine = [row for row in rows if row["device"] == name]
        cells = " | ".join(f"{row['estimated_ms']:.2f} ({row['left_on_cpu']})" for row in mine)
        lines.append(f"| {NPUS[name].title} | {cells} | {mine[0]['assumes']} |")
    packages = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    lines += ["", f"224 x 224 px, batch 1; {packages}."]
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
        measured |= {"compiled": [], "simulated": []}
        if output is not None and output.exists():  # only the given variants are measured again
            kept = json.loads(output.read_text())
            if kept["versions"] == measured["versions"]:
                for part in ("compiled", "simulated"):
                    measured[part] = [row for row in kept[part] if row["variant"] not in variants]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            size = Preprocessing.published(latency.SIDE, latency.SIDE)
            make_calibration(str(photographs / "calib224"), 320, 0, size, folder / "set", Silent())
            for variant in variants:
                bundles = files(variant, photographs, folder / "set", folder)
                measured["compiled"] += compiled(variant, bundles["hexagon"], HEXAGONS)
                measured["compiled"] += compiled(variant, bundles["ethos-u"], ETHOS_US)
                measured["simulated"] += simulated(variant, bundles["hexagon"], photographs)
                for part in ("compiled", "simulated"):
                    measured[part].sort(key=lambda row: VARIANTS.index(row["variant"]))
                if output is not None:
                    output.write_text(json.dumps(measured, indent=1) + "\n")
    print(tables(measured))
    limits.enforce(limits.npus, measured)


if __name__ == "__main__":
    typer.run(main)
