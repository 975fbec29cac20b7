"""Writes rendered images as PNG files: one sub-folder per class, images with masks, or images with COCO annotations."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.masks import IMAGES, MASKS, save_mask
from cloformer_deploy.data.rendered.drawing import label, render
from cloformer_deploy.data.rendered.images import RenderedImages
from cloformer_deploy.data.rendered.objects import CLASSES
from cloformer_deploy.data.rendered.scenes import SCENES_VERSION, Scene, render_scene
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress

ANNOTATIONS = "annotations.json"


def write_folder(images: RenderedImages, output: Path, progress: Progress) -> None:
    """Write each image to `output/CLASS/SPLIT-INDEX.png`; see `_staged`."""

    def write(index: int, folder: Path) -> None:
        path = folder / CLASSES[label(index)] / f"{images.split}-{index:06}.png"
        path.parent.mkdir(exist_ok=True)
        _save(render(images.split, index), path)

    with _staged(output) as staging:
        _write_all(images.indices, staging, write, progress)


def write_masks(split: str, indices: Sequence[int], size: tuple[int, int], output: Path, progress: Progress) -> None:
    """Write scenes to `output/images/` and their masks to `output/masks/`; see `_staged`.

    Args:
        split: of the scenes.
        indices: of the scenes in the split.
        size: height and width, pixels.
        output: the folder.
        progress: receives the number of scenes written.
    """

    def write(index: int, folder: Path) -> None:
        scene = render_scene(split, index, *size)
        _save(scene.pixels, folder / IMAGES / _scene_name(split, index))
        save_mask(scene.mask, folder / MASKS / _scene_name(split, index))

    with _staged(output) as staging:
        for name in (IMAGES, MASKS):
            (staging / name).mkdir()
        _write_all(indices, staging, write, progress)


def write_coco(split: str, indices: Sequence[int], size: tuple[int, int], output: Path, progress: Progress) -> None:
    """Write scenes to `output/images/`, and `output/annotations.json` in COCO's format; see `_staged`.

    Objects that do not count are crowds (`iscrowd` 1), which evaluation ignores. The arguments are those of
    `write_masks`. Format: https://cocodataset.org/#format-data
    """
    annotations: list[dict[str, Any]] = []

    def write(index: int, folder: Path) -> None:
        scene = render_scene(split, index, *size)
        _save(scene.pixels, folder / IMAGES / _scene_name(split, index))
        for entry in _coco_objects(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": index, **entry})

    with _staged(output) as staging:
        (staging / IMAGES).mkdir()
        _write_all(indices, staging, write, progress)
        height, width = size
        document = {
            "info": {"description": f"cloformer-deploy rendered scenes, version {SCENES_VERSION}, split {split}"},
            "images": [
                {"id": index, "file_name": _scene_name(split, index), "height": height, "width": width}
                for index in indices
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
        }
        (staging / ANNOTATIONS).write_text(json.dumps(document) + "\n")


def _scene_name(split: str, index: int) -> str:
    return f"{split}-{index:06}.png"


def _coco_objects(scene: Scene) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(scene.objects, start=1):
        left, top, right, bottom = item.box
        yield {
            "category_id": item.index + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": item.area,
            "iscrowd": int(item.ignored),
            "segmentation": {"counts": run_lengths(scene.owners == number), "size": list(scene.owners.shape)},
        }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths of a mask (H, W): column by column, beginning with those outside."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def _write_all(indices: Sequence[int], folder: Path, write: Callable[[int, Path], None], progress: Progress) -> None:
    progress.step(f"Rendering {len(indices)} images")
    for done, index in enumerate(indices, start=1):
        write(index, folder)
        progress.advance(done, len(indices))


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """Give a temporary folder that is renamed to `output` when all is written; missing parents are created.

    Raises:
        RequestError: there is a file or a folder with content at `output`.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(f"{output} exists and is not an empty folder", "choose another output folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp gives access to the owner only
        staging.replace(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
