"""A range of the rendered task as a folder of PNG files, one sub-folder a class."""

import shutil
import tempfile
from pathlib import Path

from PIL import Image

from cloformer_deploy.data.rendered.drawing import CLASSES, label, render
from cloformer_deploy.data.rendered.images import RenderedImages
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress


def write_folder(images: RenderedImages, output: Path, progress: Progress) -> None:
    """Write `output/CLASS/SPLIT-INDEX.png` for each image; the folder appears whole or not at all.

    Raises:
        RequestError: there is something at `output` already.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(f"{output} exists and is not an empty folder", "choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    progress.step(f"Rendering {len(images)} images")
    staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        for done, index in enumerate(images.indices, start=1):
            folder = staging / CLASSES[label(index)]
            folder.mkdir(exist_ok=True)
            path = folder / f"{images.split}-{index:06}.png"
            Image.fromarray(render(images.split, index)).save(path, compress_level=1)
            progress.advance(done, len(images))
        staging.chmod(0o755)  # mkdtemp's folder is for its owner only
        staging.replace(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
