"""Times the whole path of one file in a process of its own: decode, resize, normalize, run; and watches its memory.

python -m cloformer_deploy.bench.path_worker JOB     # JSON of `PathJob` in; lines of JSON out, the last `PathTimes`
"""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.bench.results import PathTimes
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.data.decoding import decode
from cloformer_deploy.data.preprocessing import fit
from cloformer_deploy.system.schema import AnyPath, Strict
from cloformer_deploy.system.subprocesses import end_with_parent

SETTLED = 0.1
"""Share of the runs after which memory is taken for settled: runtimes allocate in their first runs."""
STEPS = 20
"""Lines of progress."""

Run = Callable[[dict[str, NDArray[Any]]], Any]


class PathJob(Strict):
    """One file to time.

    Attributes:
        path: of the file.
        opener: see `backends.base.Opener`.
        unit: compute unit, or None.
        threads: of the runtime.
        channels_last: layout of the file's input.
        normalized: the file takes normalized floats; else pixels.
        preprocessing: the model's.
        image: JPEG to begin with.
        rounds: of the whole path.
        runs: of the file alone, while memory is watched.
    """

    path: AnyPath
    opener: AnyPath
    unit: str | None
    threads: int
    channels_last: bool
    normalized: bool
    preprocessing: Preprocessing
    image: AnyPath
    rounds: int
    runs: int


def measured(job: PathJob, advance: Callable[[float], None]) -> PathTimes:
    """Run a job; `advance` is told the share that is done."""
    spec = importlib.util.spec_from_file_location("opener", job.opener)
    assert spec is not None  # noqa: S101 - it is a Python file of this package
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Run = module.open_file(str(job.path), job.threads, job.unit)
    feed, _ = _round(job, run)  # not counted: everything is loaded and allocated here
    rounds = []
    for number in range(job.rounds):
        rounds.append(_round(job, run)[1])
        advance(0.5 * (number + 1) / job.rounds)
    settled = None
    for number in range(job.runs):
        if number == int(SETTLED * job.runs):
            settled = resident_bytes()
        run(feed)
        if number % max(1, job.runs // STEPS) == 0:
            advance(0.5 + 0.5 * number / job.runs)
    last = resident_bytes()
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return PathTimes(
        decode_ms=medians[0],
        resize_ms=medians[1],
        normalize_ms=medians[2],
        model_ms=medians[3],
        total_ms=statistics.median(map(sum, rounds)),
        rounds=job.rounds,
        runs=job.runs,
        growth_bytes=None if last is None or settled is None else last - settled,
    )


def _round(job: PathJob, run: Run) -> tuple[dict[str, NDArray[Any]], tuple[float, ...]]:
    """Go the whole path once; return the input of the file, and the time of each step, milliseconds."""
    marks = [time.perf_counter()]
    image = decode(job.image, job.preprocessing.color)
    marks.append(time.perf_counter())
    pixels = fit(image, job.preprocessing)[None]
    marks.append(time.perf_counter())
    fed: NDArray[Any] = job.preprocessing.normalize(pixels) if job.normalized else pixels
    feed = {INPUT_NAME: np.ascontiguousarray(fed.transpose(0, 2, 3, 1)) if job.channels_last else fed}
    marks.append(time.perf_counter())
    run(feed)
    marks.append(time.perf_counter())
    return feed, tuple(1e3 * (after - before) for before, after in pairwise(marks))


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize()


def main() -> None:
    """Run the job of the command line."""
    out = sys.stdout
    sys.stdout = sys.stderr  # runtimes print
    end_with_parent()

    def advance(share: float) -> None:
        out.write(json.dumps({"share": share}) + "\n")
        out.flush()

    found = measured(PathJob.model_validate_json(sys.argv[1]), advance)
    out.write(found.model_dump_json() + "\n")
    out.flush()


if __name__ == "__main__":
    main()
