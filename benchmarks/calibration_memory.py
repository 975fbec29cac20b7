"""Peak memory of `cloformer-deploy calibrate` over 100 and 1,000 photographs: it must not grow with their number."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

COUNTS = (100, 1000)


def write_images(folder: Path, count: int) -> None:
    """Noise of the size of small photographs, as JPEG files in ten classes."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / str(index % 10) / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (375, 500, 3), np.uint8)).save(path)


def peak_rss(images: Path, count: int, output: Path) -> int:
    """The most resident memory that one run of the command had, in the system's unit."""
    command = [sys.executable, "-m", "cloformer_deploy", "calibrate", str(images), "--count", str(count)]
    process = subprocess.Popen([*command, "--output", str(output)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise typer.Exit(process.returncode)
    return usage.ru_maxrss


def main(limit: Annotated[float, typer.Option(help="Exit 1 if the ratio is above this.")] = 1.3) -> None:
    """Calibrate with each number of images in a process of its own, and print the ratio of the peaks."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        write_images(images, max(COUNTS))
        few, many = (peak_rss(images, count, Path(folder, f"{count}.safetensors")) for count in COUNTS)
    unit = 1 if sys.platform == "darwin" else 1024
    mib = [peak * unit / 2**20 for peak in (few, many)]
    print(f"{COUNTS[0]} images: {mib[0]:.0f} MiB; {COUNTS[1]}: {mib[1]:.0f} MiB; ratio {many / few:.2f}")
    raise typer.Exit(int(many / few > limit))


if __name__ == "__main__":
    typer.run(main)
