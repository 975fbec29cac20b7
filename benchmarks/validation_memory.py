"""Peak memory of `cloformer-deploy validate` of three files on 100 and 1,000 images: it must not grow with them.

The process and its children are counted together.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.memory import peak_rss
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent

COUNTS = (100, 1000)


def peak_bytes(bundle: Path, count: int) -> int:
    """The most resident memory that one run of the command had; its verdict does not matter."""
    command = [sys.executable, "-m", "cloformer_deploy", "validate", str(bundle), "--limit", str(count)]
    peak, code = peak_rss([*command, "--json"], subprocess.DEVNULL)
    if code not in (0, 1):
        raise typer.Exit(code)
    return peak


def main(
    weights: Annotated[str, typer.Option(help="Weights to export and validate.")] = "xxs-scenes-segment",
    limit: Annotated[float, typer.Option(help="Exit 1 if the ratio is above this.")] = 1.3,
) -> None:
    """Validate with each number of images, and print the ratio of the peaks."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "bundle")
        export(ExportRequest([*BACKENDS], weights=weights, output=bundle), Silent())
        few, many = (peak_bytes(bundle, count) for count in COUNTS)
    mib = [peak / 2**20 for peak in (few, many)]
    print(f"{COUNTS[0]} images: {mib[0]:.0f} MiB; {COUNTS[1]}: {mib[1]:.0f} MiB; ratio {many / few:.2f}")
    raise typer.Exit(int(many / few > limit))


if __name__ == "__main__":
    typer.run(main)
