"""Validation on many machines: processor time of each runtime, the overhead of Ray, and what 50,000 images cost.

    python benchmarks/scale.py [BUNDLE] [--images N] [--output FILE]   # measures, writes JSON, prints the tables
    python benchmarks/scale.py --table FILE                            # prints the tables of a JSON file, in Markdown

BUNDLE is an export of ONNX, Core ML and TFLite in all precisions; without it one of the default weights is made. Images
are rendered. Core AI's interpreter runs in processes of its own: its times are those that `core_ai.py` has recorded.
Times are processor time, which a busy machine hardly stretches: of one core, and for the overhead of all processes
together, with their start. Runs of the int8 files on Ray, and in as many processes of Python's own
`ProcessPoolExecutor`, alternate, and must find the same, byte by byte.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from PIL import Image

from benchmarks import latency
from cloformer_deploy.backends.registry import DEFAULT_FORMATS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Dataset, ImageFolder, RenderedImages
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.validation.bundle_work import BundleWork, Candidate
from cloformer_deploy.validation.cached_inference import BATCH_SIZE
from cloformer_deploy.validation.digest_work import DigestWork
from cloformer_deploy.validation.workers import RayWorkers
from cloformer_deploy.validation.workers.base import Found, Shard, Work, load, run
from cloformer_deploy.validation.workers.cluster import joined

PRECISIONS = ("fp32", "fp16", "int8")
TOTAL = 50_000
MACHINES = (1, 2, 4, 8, 16, 32, 64)
FEW = 1000
MOST_OVERHEAD = 1.10
"""Largest processor time of a run of `FEW` images on Ray over that of the same in processes."""
REFERENCE, LOADING = "PyTorch", "loading"
HANDED_OUT = 8000
"""Images that tell what a driver can do."""
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "coremltools", "ray")


def shards_of(images: Dataset, subjects: int) -> Iterator[Shard]:
    """Yield the shards of all images, for all subjects."""
    for first in range(0, len(images), BATCH_SIZE):
        indices = tuple(range(first, min(first + BATCH_SIZE, len(images))))
        yield Shard(indices, (tuple(range(len(indices))),) * subjects)


def work_of(bundle: Bundle, images: Dataset, precisions: Sequence[str]) -> BundleWork:
    """Return the work of the artifacts of some precisions."""
    chosen = tuple(item for item in bundle.manifest.artifacts if item.precision in precisions)
    kept = Bundle(bundle.root.absolute(), bundle.manifest.model_copy(update={"artifacts": chosen}))
    return BundleWork(kept, images, [Candidate(kept, item, runtime_for(item.format)) for item in chosen])


def core_ai_rates() -> list[dict[str, Any]]:
    """Return what `core_ai.py` has recorded of networks of the default weights' size, like `rates`."""
    timed = json.loads((Path(__file__).parent / "results" / "coreai.json").read_text())["timed"]
    ms = {item["precision"]: round(1000 * item["image_cpu_s"], 2) for item in timed if item["variant"] == "xxs"}
    title = runtime_for("coreai").title
    return [{"format": "coreai", "precision": name, "title": title, "ms": ms[name]} for name in PRECISIONS]


def rates(bundle: Bundle, images: Dataset) -> list[dict[str, Any]]:
    """Measure processor time per image of each part, which takes one core, ms; all parts in turn, batch by batch."""
    work = work_of(bundle, images, PRECISIONS)
    parts = [(item.format, item.precision, runtime_for(item.format).title) for item in bundle.manifest.artifacts]
    names = [("", "", LOADING), ("", "fp32", REFERENCE), *(part for part in parts if part[1] in PRECISIONS)]
    found: list[list[float]] = [[] for _ in names]
    torch.set_num_threads(1)
    work.open(range(len(work.keys)))
    for shard in shards_of(work.images, len(work.keys)):
        start = time.process_time()
        lot = load(work, shard)
        loaded = time.process_time()
        lot = replace(lot, prepared=work.prepare(lot.pixels))
        prepared = time.process_time()
        times = [loaded - start, prepared - loaded]
        for subject in range(1, len(work.keys)):
            begun = time.process_time()
            run(work, shard, lot, subject)
            times.append(time.process_time() - begun)
        for kept, seconds in zip(found, times, strict=True):
            kept.append(1000 * seconds / len(shard.indices))
    return [
        {"format": name[0], "precision": name[1], "title": name[2], "ms": round(statistics.median(every), 2)}
        for name, every in zip(names, found, strict=True)
    ]


_work: BundleWork
"""The work of a process of the pool."""


def _start(work: BundleWork) -> None:
    global _work
    _work = work
    work.open(range(len(work.keys)))


def _one(shard: Shard) -> Found:
    lot = load(_work, shard)
    lot = replace(lot, prepared=_work.prepare(lot.pixels))
    return [run(_work, shard, lot, subject) for subject in range(len(shard.wanted))]


def in_processes(work: BundleWork) -> Iterator[Found]:
    """Yield all results, computed by processes of Python's own pool, with one thread each, as Ray has it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(usable_cores(), get_context("spawn"), _start, (work,)) as pool:
        yield from pool.map(_one, shards_of(work.images, len(work.keys)))


def on_ray(work: Work) -> Iterator[Found]:
    """Yield all results, computed by Ray on this machine."""
    with joined(None, Silent()):
        yield from RayWorkers(Silent()).map(work, shards_of(work.images, len(work.keys)))


def used_s() -> float:
    """Return processor seconds of this process and of all that it has started and that still run."""
    own = psutil.Process()
    times = [item.cpu_times() for item in (own, *own.children(recursive=True))]
    return sum(item.user + item.system for item in times)


def timed(found: Iterator[Found]) -> tuple[list[Any], dict[str, float]]:
    """Return results, and the seconds of all processes together: to the first shard, to the last; and by the clock."""
    before, start = used_s(), time.perf_counter()
    results = [next(found)]
    first = used_s() - before
    for item in found:
        results.append(item)
        last = used_s() - before  # after the last shard the processes end
    plain = [[list(row) for row in item] for item in results]
    clock = time.perf_counter() - start
    return plain, {"first_s": round(first, 2), "last_s": round(last, 2), "clock_s": round(clock, 2)}


def overhead(bundle: Bundle, count: int, rounds: int) -> dict[str, Any]:
    """Measure whole runs on Ray and in processes, in turns, and compare what they find."""
    runs: dict[str, list[dict[str, float]]] = {"processes": [], "ray": []}
    for index in range(rounds):
        found = {}
        for name in sorted(runs, reverse=bool(index % 2)):
            work = work_of(bundle, RenderedImages("test", range(count), labeled=True), ["int8"])
            found[name], seconds = timed(in_processes(work) if name == "processes" else on_ray(work))
            runs[name].append(seconds)
        if found["ray"] != found["processes"]:
            raise SystemExit("Ray and processes found different results")
    return {"images": count, "workers": usable_cores(), "runs": runs}


def ceiling(bundle: Bundle) -> float:
    """Measure images per second that one core of the driver can hand out and take back.

    The work is nearly none, so that the driver's own processor time shows: it reads and hashes each image's file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.jpg")
        preprocessing = bundle.manifest.preprocessing
        pixels = RenderedImages("test", range(1), labeled=True).load(0, preprocessing)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path, quality=95)
        images = ImageFolder(Path(folder), (path,) * HANDED_OUT, None)
        with joined(None, Silent()):
            start = time.process_time()
            list(RayWorkers(Silent()).map(DigestWork(images, preprocessing), shards_of(images, 1)))
            return round(HANDED_OUT / (time.process_time() - start))


def tables(measured: Mapping[str, Any]) -> str:
    """Return the page's tables in Markdown."""
    without = {**measured, "rates": [item for item in measured["rates"] if item["format"] != "coreai"]}
    return "\n\n".join([_rates_table(measured), _cost_table(without), _cost_table(measured)])


def _rates_table(measured: Mapping[str, Any]) -> str:
    rows = (
        f"| {item['title']} | {item['precision']} | {item['ms']:.1f} | {1000 / item['ms']:.1f} |"
        for item in measured["rates"]
    )
    return "\n".join(["| on one core | precision | ms per image | images/s |", "|---|---|---|---|", *rows])


def _cost_table(measured: Mapping[str, Any]) -> str:
    """Return minutes of all precisions and formats, and what they go to."""
    head = [f"{precision}, min" for precision in PRECISIONS]
    lines = [f"| machines | {' | '.join(head)} | all in one run, min | core hours | bottleneck |", "|---" * 7 + "|"]
    for machines in MACHINES:
        every = [estimate(measured, [precision], machines) for precision in PRECISIONS]
        whole = estimate(measured, PRECISIONS, machines)
        cells = [*(f"{60 * item['hours']:.1f}" for item in (*every, whole)), f"{whole['core_hours']:.1f}"]
        lines.append(f"| {machines} | {' | '.join(cells)} | {whole['bottleneck']} |")
    return "\n".join(lines)


def estimate(measured: Mapping[str, Any], precisions: Sequence[str], machines: int) -> dict[str, Any]:
    """Return hours that a run of `TOTAL` images takes on machines like the measured one, and its bottleneck."""
    parts = {
        f"{item['title']} {item['precision']}".strip(): item["ms"]
        for item in measured["rates"]
        if item["title"] in (LOADING, REFERENCE) or item["precision"] in precisions
    }
    cores = machines * measured["overhead"]["workers"]
    computing = TOTAL * sum(parts.values()) / 1000 * max(1.0, ratio(measured))
    handing_out = TOTAL / measured["ceiling_images_per_s"]
    started = statistics.median([run["first_s"] for run in measured["overhead"]["runs"]["ray"]]) / cores * machines
    slowest = max(parts, key=lambda name: parts[name])
    share = parts[slowest] / sum(parts.values())
    driver = handing_out > computing / cores
    return {
        "hours": (started + max(computing / cores, handing_out)) / 3600,
        "core_hours": max(computing, handing_out * cores) / 3600,
        "bottleneck": "the driver" if driver else f"{slowest} ({share:.0%})",
    }


def ratio(measured: Mapping[str, Any], images: int = TOTAL) -> float:
    """Return the processor time of a run of so many images on Ray over that in processes: the median of rounds."""
    found: Mapping[str, Any] = measured["overhead"]
    more: float = (images - BATCH_SIZE) / (found["images"] - BATCH_SIZE)

    def whole(run: Mapping[str, float]) -> float:
        return run["first_s"] + (run["last_s"] - run["first_s"]) * more

    both = zip(found["runs"]["ray"], found["runs"]["processes"], strict=True)
    ratios: list[float] = [whole(ray) / whole(processes) for ray, processes in both]
    return statistics.median(ratios)


def _exported(bundle: Path | None) -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory() if bundle is None else nullcontext(str(bundle))


def main(
    bundle: Annotated[Path | None, typer.Argument(help="Export of all formats in fp32, fp16 and int8.")] = None,
    images: Annotated[int, typer.Option(min=64, help="Images of each run that tells the overhead.")] = 1000,
    batches: Annotated[int, typer.Option(min=1, help="Batches that tell the rates.")] = 12,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--table", help="Print this file's tables, and measure nothing.")
    ] = None,
) -> None:
    """Measure, write, print. The exit code is 1 if Ray costs more than `MOST_OVERHEAD`."""
    if from_file is not None:
        print(tables(json.loads(from_file.read_text())))
        return
    with _exported(bundle) as folder:
        root = Path(folder, "bundle") if bundle is None else bundle
        if bundle is None:
            export(ExportRequest(DEFAULT_FORMATS, PRECISIONS, output=root), Silent())
        opened = Bundle.open(root)
        measured: dict[str, Any] = {
            "schema_version": 1,
            "machine": latency.machine(),
            "versions": {package: version(package) for package in PACKAGES},
            "weights": opened.manifest.weights.name,
            "rates": [
                *rates(opened, RenderedImages("test", range(batches * BATCH_SIZE), labeled=True)),
                *core_ai_rates(),
            ],
            "overhead": overhead(opened, images, rounds),
            "ceiling_images_per_s": ceiling(opened),
        }
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n")
    print(tables(measured))
    found = ratio(measured, FEW)
    print(f"{FEW} images on Ray take {found:.3f} times the time in processes; at most {MOST_OVERHEAD} is allowed")
    if found > MOST_OVERHEAD:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
