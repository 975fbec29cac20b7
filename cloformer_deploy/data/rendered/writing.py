"""Writes images of the rendered data set as PNG files, one sub-folder per class."""

import shutil
import tempfile
from pathlib import Path

from PIL import Image

from cloformer_deploy.data.rendered.drawing import CLASSES, label, render
from cloformer_deploy.data.rendered.images import RenderedImages
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress


def write_folder(images: RenderedImages, output: Path, progress: Progress) -> None:
    """Write each image to `output/CLASS/SPLIT-INDEX.png`.

    The images are written to a temporary folder, which is renamed to `output` when it is complete.

    Args:
        images: the images.
        output: the folder; missing parents are created.
        progress: receives the number of images written.

    Raises:
        RequestError: there is a file or a folder with content at `output`.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(f"{output} exists and is not an empty folder", "choose another output folder")
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
        staging.chmod(0o755)  # mkdtemp gives access to the owner only
        staging.replace(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
