"""Deploy the nearest peers as this tool deploys CloFormer: float32 and int8, ONNX and TFLite; `make peers` runs it.

    python benchmarks/peers_deploy.py FOLDER     # of peers_export.py; goes on where it was interrupted

Their weights are random: int8 is calibrated with rendered images for its time, and its accuracy says nothing.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from cloformer_deploy.data import Preprocessing, RenderedImages, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent

IMAGES = 64


def deploy(program: Path) -> None:
    """Write the bundle of a program beside it."""
    side = int(program.stem.rpartition("-")[2])
    calibration = program.with_name(f"calibration-{side}.safetensors")
    if not calibration.exists():
        size = Preprocessing.published(side, side, margin=False)
        with tempfile.TemporaryDirectory() as name:  # as a folder of images, for `rendered` is our own weights' task
            for batch in RenderedImages("calibration", range(IMAGES), labeled=False).batches(size, 1):
                count = len(list(Path(name).iterdir()))
                Image.fromarray(batch.pixels[0].transpose(1, 2, 0)).save(Path(name, f"{count}.png"))
            make_calibration(name, IMAGES, 0, size, calibration, Silent())
    request = ExportRequest(
        ["onnx", "tflite"], ["fp32", "int8"], str(program), calibration=calibration, output=program.with_suffix("")
    )
    export(request, Silent())


def main() -> None:
    """Deploy all programs of a folder that are not deployed yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for program in sorted(parser.parse_args().folder.glob("*.pt2")):
        if not program.with_suffix("").exists():  # a bundle is written whole or not at all
            print(program.stem, flush=True)
            deploy(program)


if __name__ == "__main__":
    main()
