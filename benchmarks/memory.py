"""Peak memory of `cloformer-deploy export` of one variant to all formats: the process and its children together."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer

from cloformer_deploy.networks.cloformer import create_model

INTERVAL_S = 0.05


def tree_rss_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants; pages they share count once for each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it ended between the listing and the look
            continue
    return total


def peak_rss(command: Sequence[str], output: int | None = None) -> tuple[int, int]:
    """Run a command; return the most memory that it and its children had together, bytes, and its exit code.

    Args:
        command: program and arguments.
        output: where its standard output goes; None is where ours goes.
    """
    peak = 0
    with subprocess.Popen(command, stdout=output) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, tree_rss_bytes(watched))
            time.sleep(INTERVAL_S)
    return peak, process.returncode


def main(
    variant: Annotated[str, typer.Option(help="The variant to export, with random weights.")] = "s",
    limit_gib: Annotated[float, typer.Option(help="Exit 1 if the peak is above this.")] = 4.0,
) -> None:
    """Export to ONNX, Core ML and TFLite in fp32 and fp16, and print the peak."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.pt")
        torch.manual_seed(0)
        torch.save(create_model(variant).state_dict(), weights)
        command = [sys.executable, "-m", "cloformer_deploy", "export", "--weights", str(weights)]
        command += ["--precision", "fp32", "--precision", "fp16", "--output", str(Path(folder, "bundle"))]
        start = time.perf_counter()
        peak, code = peak_rss(command)
        seconds = time.perf_counter() - start
    print(f"{variant}: peak {peak / 2**30:.2f} GiB, {seconds:.0f} s, exit code {code}")
    raise typer.Exit(code or int(peak > limit_gib * 2**30))


if __name__ == "__main__":
    typer.run(main)
