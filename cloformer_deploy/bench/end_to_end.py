"""`bench --end-to-end`: what an application waits for beside the model, and whether memory grows; on this machine."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices.base import Load
from cloformer_deploy.bench.path_worker import PathJob
from cloformer_deploy.bench.results import PathTimes
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.subprocesses import own_process

SIZE = (640, 480)
"""Width and height of the image, pixels."""
QUALITY = 90
ROUNDS, RUNS = 200, 10_000


def end_to_end(
    bundle: Bundle, loads: Sequence[Load], threads: int, progress: Progress, rounds: int = ROUNDS, runs: int = RUNS
) -> Iterator[tuple[Load, PathTimes]]:
    """Yield the times of the whole path for each file, one after the other, each in a process of its own.

    Args:
        bundle: of the files.
        loads: files of batch 1 that run on this machine.
        threads: of each runtime.
        progress: takes the steps.
        rounds: of the whole path.
        runs: of each file alone, while its memory is watched.

    Raises:
        ToolError: a runtime failed.
    """
    preprocessing = bundle.manifest.preprocessing
    with tempfile.TemporaryDirectory(prefix="cloformer-bench-") as folder:
        image = Path(folder, "image.jpg")
        (pixels,) = probe_images(1, preprocessing)
        drawn = Image.fromarray(pixels[:3].transpose(1, 2, 0)) if len(pixels) >= 3 else Image.fromarray(pixels[0])
        drawn.resize(SIZE, Image.Resampling.BICUBIC).save(image, quality=QUALITY)
        for load in loads:
            progress.step(f"Timing the whole path of {load.artifact.path}")
            backend = BACKENDS[load.artifact.format]
            job = PathJob(
                path=load.path.absolute(),
                opener=backend.opener.path,
                unit=backend.opener.units[-1],
                threads=threads,
                channels_last=backend.input_layout == "NHWC",
                normalized=load.artifact.input.kind == "tensor",
                preprocessing=preprocessing,
                image=image,
                rounds=rounds,
                runs=runs,
            )
            yield load, _times(job, progress)


def _times(job: PathJob, progress: Progress) -> PathTimes:
    with (
        tempfile.TemporaryFile("w+") as log,
        own_process(
            "cloformer_deploy.bench.path_worker", job.model_dump_json(), stdout=subprocess.PIPE, stderr=log
        ) as worker,
    ):
        assert worker.stdout is not None  # noqa: S101 - it is a pipe
        lines = []
        for line in worker.stdout:
            lines.append(line)
            if (share := json.loads(line).get("share")) is not None:
                progress.advance(round(100 * share), 100)
        if worker.wait() != 0:
            log.seek(0)
            last = (log.read().strip().splitlines() or ["it gives no reason"])[-1]
            raise ToolError(f"the whole path of {job.path.name} cannot be timed: {last}", "report this")
    return PathTimes.model_validate_json(lines[-1])
