"""Measure which of ninety faults, planted in real exported files of three tasks, the checks catch on rendered images.

    python benchmarks/planted.py --work DIR [--output FILE]   # plants and judges; goes on from what DIR holds
    python benchmarks/planted.py --table FILE                 # prints the table of a JSON file, in Markdown

A fault is caught if the gate fails, with the healthy files as the baseline; named if it says what is wrong, or, for a
layer, if `blame` puts it first. Healthy files are judged too: none may fail or be given a name.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from benchmarks import limits
from benchmarks.faults.catalogue import FAULTS, MANY, SOME, Fault
from benchmarks.faults.dense import DENSE_FAULTS, N
from benchmarks.faults.planting import alone, plant
from benchmarks.faults.wrapping import convert_wrapped
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.blame import Reexported, blame, reexport
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset, RenderedImages, RenderedScenes, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.progress import Silent
from cloformer_deploy.system.files import replaced
from cloformer_deploy.validation.cache import Cache
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

BLAMED = 8
"""Images that `blame` looks at."""
DARK, DARKER = 32, 16
"""Images of the stale calibration set, and by what their pixels are divided: nearly black."""
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "coremltools")


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on one file: whether it fails, by which checks, and the causes that it names."""

    n: int
    agreement: float
    non_finite: int
    sqnr_db: float | None
    caught: bool
    checks: tuple[str, ...]
    said: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """The weights of a task, and the files that faults are planted in.

    Attributes:
        weights: None for the default ones.
        precisions: of the files.
        n: on how many images the healthy files are accepted.
        images: returns those of some indices.
    """

    weights: str | None
    precisions: tuple[str, ...]
    n: int
    images: Callable[[Sequence[int]], Dataset]


SUBJECTS = {
    "classification": Subject(None, ("fp32", "fp16", "int8"), MANY, partial(RenderedImages, "test")),
    "segmentation": Subject("xxs-scenes-segment", ("fp32", "int8"), N, partial(RenderedScenes, "test")),
    "detection": Subject("xxs-scenes-detect", ("fp32", "int8"), N, partial(RenderedScenes, "test")),
}


class Checker:
    """The healthy bundle of a task, and PyTorch's outputs of the images that files are judged on."""

    def __init__(self, task: str, work: Path, scratch: Path) -> None:
        self.work, self.scratch, subject = work, scratch, SUBJECTS[task]
        self.healthy = _exported(work / "healthy", tuple(BACKENDS), subject, None)
        self.model = build_model(load_checkpoint(self.healthy.weights_path))
        self.preprocessing = self.healthy.manifest.preprocessing
        (batch,) = subject.images(range(BLAMED)).batches(self.preprocessing, BLAMED)
        self.pixels = batch.pixels
        self._cache = Cache(work / "cache")
        accepted = gate(self.healthy, None, subject.n, DriftConfig(), None, self._cache, {}, Silent()).new_baseline
        if accepted is None:
            raise RuntimeError("the healthy files fail the gate")
        self.baseline = accepted
        self._reexported: dict[tuple[str, str], Reexported] = {}

    def artifact(self, format_name: str, precision: str) -> Artifact:
        """The healthy bundle's."""
        found = (
            item
            for item in self.healthy.manifest.artifacts
            if (item.format, item.precision) == (format_name, precision)
        )
        return next(found)

    def plant(self, fault: Fault, root: Path) -> Bundle:
        """A bundle at `root` with the one spoilt artifact."""
        artifact = self.artifact(fault.format, fault.precision)
        if fault.wrapper is not None:
            path = self.work / "wrapped" / fault.name.replace(" ", "-") / artifact.path
            convert_wrapped(self.healthy, artifact, fault.wrapper, path)
            return alone(self.healthy, artifact, root, path)
        if fault.edit is None:
            stale = self._stale(fault.format)
            return alone(self.healthy, artifact, root, stale.path(stale.manifest.artifacts[0]))
        return plant(self.healthy, artifact, self.model, fault.edit, root)[0]

    def judge(self, bundle: Bundle, n: int) -> Judged:
        """Judge the bundle's one artifact on the first `n` images, with the healthy artifacts as the baseline."""
        (artifact,) = bundle.manifest.artifacts
        same = tuple(item for item in self.baseline.artifacts if item.key == artifact.key)
        baseline = self.baseline.model_copy(update={"artifacts": same})
        (cell,) = gate(bundle, None, n, DriftConfig(), baseline, self._cache, {}, Silent()).cells
        found = cell.comparison
        if found is None:
            raise RuntimeError(f"{artifact.path} was not executed: {cell.checks}")
        return Judged(
            n,
            found.agreement,
            found.non_finite,
            found.sqnr_db,
            cell.status == "failed",
            tuple(check.name for check in cell.checks if check.outcome == "failed"),
            cell.causes,
        )

    def blamed(self, bundle: Bundle) -> str | None:
        """The layer that `blame` puts first."""
        (artifact,) = bundle.manifest.artifacts
        kind = (artifact.format, artifact.precision)
        if kind not in self._reexported:
            folder = Path(tempfile.mkdtemp(dir=self.scratch))
            self._reexported[kind] = reexport(bundle, artifact, folder, None, Silent())
        found = blame(bundle, artifact, self.pixels[:BLAMED], Silent(), reexported=self._reexported[kind])
        return str(found.layers[0].path) if found.layers else None

    def _stale(self, format_name: str) -> Bundle:
        """An int8 export of a format, its ranges measured on nearly black images."""
        folder = self.work / "stale"
        calibration = folder / "dark.safetensors"
        if not calibration.exists():
            images = RenderedImages("calibration", range(DARK))
            (folder / "dark").mkdir(parents=True, exist_ok=True)
            for index in images.indices:
                dark = (images.image(index, self.preprocessing) // DARKER).transpose(1, 2, 0)
                Image.fromarray(dark).save(folder / "dark" / f"{index}.png")
            make_calibration(str(folder / "dark"), DARK, 0, self.preprocessing, calibration, Silent())
        only = dataclasses.replace(SUBJECTS["classification"], precisions=("int8",))
        return _exported(folder / format_name, (format_name,), only, calibration)


def _exported(root: Path, formats: Iterable[str], subject: Subject, calibration: Path | None) -> Bundle:
    """A bundle of bundled weights, made once; format by format, so that an interrupted run goes on."""
    for name in formats:
        done = Bundle.open(root).manifest.artifacts if (root / "manifest.json").exists() else ()
        if not any(item.format == name for item in done):
            request = ExportRequest(
                (name,), subject.precisions, weights=subject.weights, calibration=calibration, output=root
            )
            export(request, Silent())
    return Bundle.open(root)


def measure(work: Path, wanted: Callable[[str], bool], blaming: bool) -> dict[str, Any]:
    """Judge the healthy files of each task, then plant and judge each fault whose name is wanted."""
    weights, healthy, results = {}, [], []
    for task in SUBJECTS:
        faults = [fault for fault in (*FAULTS, *DENSE_FAULTS) if fault.task == task and wanted(fault.name)]
        if not faults:
            continue
        place = work if task == "classification" else work / task
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as folder:
            checker = Checker(task, place, Path(folder))
            weights[task] = checker.healthy.manifest.weights.name
            sound = [_healthy(checker, task, artifact, Path(folder)) for artifact in checker.healthy.manifest.artifacts]
            healthy += sound
            sqnr_db = {(item["format"], item["precision"]): item["sqnr_db"] for item in sound}
            for fault in faults:
                normal = sqnr_db[fault.format, fault.precision]
                results.append(_planted(checker, fault, normal, blaming, Path(folder)))
                print(_row(results[-1]), file=sys.stderr, flush=True)
    versions = {package: version(package) for package in PACKAGES}
    return {"schema_version": 2, "weights": weights, "versions": versions, "healthy": healthy, "faults": results}


def _healthy(checker: Checker, task: str, artifact: Artifact, folder: Path) -> dict[str, Any]:
    judged = checker.judge(alone(checker.healthy, artifact, folder / "healthy"), min(SOME, SUBJECTS[task].n))
    return {"task": task, "format": artifact.format, "precision": artifact.precision, **dataclasses.asdict(judged)}


def _planted(checker: Checker, fault: Fault, healthy_db: float, blaming: bool, folder: Path) -> dict[str, Any]:
    """Plant and judge a fault, unless an earlier run did."""
    done = checker.work / "faults" / f"{fault.name.replace(' ', '-')}.json"
    if not done.exists():
        bundle = checker.plant(fault, folder / "planted")
        judged = checker.judge(bundle, fault.n)
        blamed = checker.blamed(bundle) if blaming and fault.kind == "layer" else None
        done.parent.mkdir(exist_ok=True)
        with replaced(done) as staged:
            staged.write_text(json.dumps(_result(fault, judged, healthy_db, blamed)))
    result: dict[str, Any] = json.loads(done.read_text())
    return result


def _result(fault: Fault, judged: Judged, healthy_db: float, blamed: str | None) -> dict[str, Any]:
    described = {key: value for key, value in vars(fault).items() if key not in ("edit", "wrapper", "named", "n")}
    named: bool | None = None
    if fault.named is not None:
        named = any(said.startswith(fault.named) for said in judged.said)
    elif blamed is not None:
        named = blamed in fault.layers
    damage = {"healthy_sqnr_db": healthy_db, "named": named, "blamed": blamed}
    return {"name": fault.name, **described, **dataclasses.asdict(judged), **damage}


def table(measured: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    faults = measured["faults"]
    lines = [
        "| fault | caught | named | agreement | SQNR, dB | healthy | said, or first blamed |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += map(_row, faults)
    due = [item for item in faults if item["named"] is not None]
    wrongly = [item for item in faults if item["kind"] == "layer" and item["said"]]
    unsound = [item for item in measured["healthy"] if item["caught"] or item["said"]]
    total = (
        f"{sum(item['caught'] for item in faults)} of {len(faults)} caught, {sum(item['named'] for item in due)} of "
        f"{len(due)} named; {len(wrongly)} faults of layers were given another name; of {len(measured['healthy'])} "
        f"healthy files {len(unsound)} failed or were given one."
    )
    return "\n".join([*lines, "", total])


def _row(item: Mapping[str, Any]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    sqnr, healthy = ("" if each is None else f"{each:.1f}" for each in (item["sqnr_db"], item["healthy_sqnr_db"]))
    said = item["blamed"] or "; ".join(item["said"])
    cells = [
        item["name"],
        marks[item["caught"]],
        marks[item["named"]],
        f"{item['agreement']:.1%}",
        sqnr,
        healthy,
        said,
    ]
    return "| " + " | ".join(cells) + " |"


def main(
    work: Annotated[Path | None, typer.Option(help="Folder that keeps exports and results between runs.")] = None,
    only: Annotated[str, typer.Option(help="Plant the faults alone whose name has this in it.")] = "",
    blaming: Annotated[bool, typer.Option("--blame/--no-blame", help="Let blame look at faults of layers.")] = True,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's table, and measure nothing.")
    ] = None,
    checked: Annotated[bool, typer.Option("--limits/--no-limits", help="Exit with 1 if a limit is not held.")] = True,
) -> None:
    """Plant, judge, write, print. The exit code is 1 if a limit is not held."""
    if from_file is not None:
        measured = json.loads(from_file.read_text())
        print(table(measured))
        if checked:
            limits.enforce(limits.planted, measured)
        return
    if work is None:
        raise typer.BadParameter("give --work DIR, or --table FILE")
    measured = measure(work, lambda name: only in name, blaming)
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(table(measured))
    if checked:
        limits.enforce(limits.planted, measured)


if __name__ == "__main__":
    typer.run(main)
