"""Run an export whose converter only copies a file, and kill it before its n-th change to the file system.

python -m tests.cli.dying_export FILE N [ARGUMENT ...]
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloformer_deploy.exporting.pipeline as pipeline
from cloformer_deploy.cli import main
from cloformer_deploy.exporting.jobs import Check, Job
from cloformer_deploy.progress import Progress

CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir")
"""The functions of `os` that change the file system."""


def export_and_die(made: Path, left: int, arguments: Sequence[str]) -> None:
    """Run the command line with `arguments`, each artifact being a copy of `made`, for `left` changes and no more.

    It patches this process, which is to do nothing else.
    """

    def convert(job: Job) -> Iterator[Check]:
        for precision, path in job.paths.items():
            shutil.copy(made, path)
            yield Check(precision=precision, runtime="none", n=1, max_abs_diff=0.0, sqnr_db=99.0)

    def run(jobs: Sequence[Job], progress: Progress) -> list[list[Check]]:
        return [list(convert(job)) for job in jobs]

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **values: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return operation(*args, **values)

        return call

    pipeline.run = run  # type: ignore[attr-defined]
    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    sys.argv = ["cloformer-deploy", *arguments]
    main()


if __name__ == "__main__":
    export_and_die(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
