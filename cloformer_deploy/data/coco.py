"""COCO annotations, for object detection: a JSON file with boxes, and its images.

Format: https://cocodataset.org/#format-data
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import Batch, batches_of, evenly
from cloformer_deploy.data.class_names import comparable
from cloformer_deploy.data.decoding import decode
from cloformer_deploy.data.preprocessing import Preprocessing, fit_boxes, load_image
from cloformer_deploy.errors import DataError
from cloformer_deploy.system.text import counted, listed

ANNOTATIONS, IMAGES = "annotations.json", "images"
FORM = f"a folder with {ANNOTATIONS} (COCO) and {IMAGES}/, or the JSON file with its images beside it or in {IMAGES}/"
"""Form of labeled data."""
_HINT = f"labeled data is {FORM}"
Rows = NDArray[np.float32]
"""Objects of an image, (n, 6): left, top, right and bottom edge, class, and 1 if the object is ignored."""


@dataclass(frozen=True)
class BoxFolder:
    """Images with boxes; see `Dataset`.

    Attributes:
        root: the folder or the JSON file.
        paths: the image files, in order.
        sizes: width and height of each image as the annotations say, pixels.
        objects: of each image, edges in pixels of the image.
        warnings: what was left out.
        labels: None: an image has no single class.
        has_targets: true: the boxes.
    """

    root: Path
    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    objects: tuple[Rows, ...]
    warnings: tuple[str, ...] = ()
    labels: None = None
    has_targets: bool = True

    @property
    def name(self) -> str:
        """Path of the folder or of the JSON file."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: Sequence[int]) -> "BoxFolder":
        """Return a set of the images with these indices, in this order."""
        return replace(
            self,
            paths=tuple(self.paths[index] for index in indices),
            sizes=tuple(self.sizes[index] for index in indices),
            objects=tuple(self.objects[index] for index in indices),
        )

    def limited(self, max_images: int | None) -> "BoxFolder":
        """Return at most `max_images` images, spread evenly over the annotations; see `Dataset.limited`."""
        kept = evenly(len(self.paths), max_images)
        return self if len(kept) == len(self.paths) else self.select(kept)

    def identity(self, index: int) -> str:
        """Return the SHA-256 digests of an image's file and of its objects.

        Raises:
            DataError: the file cannot be read.
        """
        path = self.paths[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
        return " ".join(hashlib.sha256(each).hexdigest() for each in (content, self.objects[index].tobytes()))

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image at the model's input size, uint8 (C, H, W); see `Dataset.load`."""
        return load_image(self.paths[index], preprocessing)

    def truth(self, index: int, preprocessing: Preprocessing) -> Rows:
        """Return the objects of an image, edges from 0 to 1 of the model's input; see `Dataset.truth`.

        Raises:
            DataError: the image has another size than the annotations say.
        """
        path, size = self.paths[index], self.sizes[index]
        found = decode(path, "L").size
        if found != size:
            raise DataError(
                f"{path} has {found[0]} x {found[1]} pixels, its annotations are for {size[0]} x {size[1]}",
                "save the image upright, without an EXIF orientation, in the size that was annotated",
            )
        return fit_boxes(self.objects[index], size, preprocessing)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size; see `ImageSet.batches`."""
        return batches_of(self, preprocessing, size)


def is_coco(path: Path) -> bool:
    """Tell whether a path has the form of detection data."""
    return (path.suffix.lower() == ".json" and path.is_file()) or (path / ANNOTATIONS).is_file()


def open_coco(path: Path, num_classes: int, labels: Sequence[str] | None) -> BoxFolder:
    """Open images with COCO annotations.

    Args:
        path: the folder or the JSON file.
        num_classes: classes of the model.
        labels: names of the model's classes, by which categories are matched but for case, `_`, `-` and space; None
            takes the categories that occur, in the order of their numbers.

    Raises:
        DataError: the annotations cannot be read, contradict themselves or do not fit the classes, or an image is
            missing.
    """
    file = path / ANNOTATIONS if path.is_dir() else path
    content = _read(file)
    images = {_field(item, "id", int, file): item for item in content["images"]}
    if not images:
        raise DataError(f"{file} names no images", _HINT)
    boxes: dict[int, list[tuple[float, ...]]] = {number: [] for number in images}
    used = Counter(_field(item, "category_id", int, file) for item in content["annotations"])
    classes, warnings = _classes(file, content["categories"], used, num_classes, labels)
    empty = 0
    for item in content["annotations"]:
        number = _field(item, "image_id", int, file)
        if number not in boxes:
            raise DataError(f"{file} has a box for image {number}, which it does not name", "repair the annotations")
        left, top, width, height = _box(item, file)
        if min(width, height) <= 0:
            empty += 1
            continue
        index = classes[item["category_id"]]
        boxes[number].append((left, top, left + width, top + height, index, float(bool(item.get("iscrowd", 0)))))
    if empty:
        warnings += (f"{counted(empty, 'box')} of {file} without an area left out",)
    return BoxFolder(
        path,
        tuple(_image_path(file, _field(item, "file_name", str, file)) for item in images.values()),
        tuple((_field(item, "width", int, file), _field(item, "height", int, file)) for item in images.values()),
        tuple(np.array(boxes[number], np.float32).reshape(-1, 6) for number in images),
        warnings,
    )


def category_names(path: Path) -> tuple[str, ...]:
    """Return the names of the categories that have boxes, in the order of their numbers.

    Raises:
        DataError: the annotations cannot be read.
    """
    file = path / ANNOTATIONS if path.is_dir() else path
    content = _read(file)
    used = {_field(item, "category_id", int, file) for item in content["annotations"]}
    names = {_field(item, "id", int, file): _field(item, "name", str, file) for item in content["categories"]}
    return tuple(names[number] for number in sorted(used & names.keys()))


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}", _HINT) from error
    for name in ("images", "annotations", "categories"):
        found = content.get(name) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise DataError(f"{file} is no COCO file: it has no list of objects {name!r}", _HINT)
    return dict(content)


def _field(item: Mapping[str, Any], name: str, kind: type, file: Path) -> Any:
    value = item.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{file}: an entry has {name} {value!r}, not {kind.__name__}", "repair the annotations")
    return value


def _box(item: Mapping[str, Any], file: Path) -> tuple[float, float, float, float]:
    box = item.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    ):
        raise DataError(f"{file}: an annotation has bbox {box!r}", "a box is [left, top, width, height], pixels")
    left, top, width, height = map(float, box)
    return left, top, width, height


def _classes(
    file: Path,
    categories: Sequence[Mapping[str, Any]],
    used: Mapping[int, int],
    num_classes: int,
    labels: Sequence[str] | None,
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the class of each category that occurs, and warnings."""
    names = {_field(item, "id", int, file): _field(item, "name", str, file) for item in categories}
    unnamed = sorted(used.keys() - names.keys())
    if unnamed:
        raise DataError(f"{file} has boxes of categories without a name: {listed(map(str, unnamed))}", _HINT)
    occurring = sorted(used)
    if labels is None:
        if len(occurring) != num_classes:
            raise DataError(
                f"{file} has boxes of {len(occurring)} categories, the model {num_classes} classes without names",
                "export with --labels FILE, so that categories are matched by name",
            )
        told = ", ".join(names[number] for number in occurring[:6])
        assumed = f"the categories of {file}, in the order of their numbers, are taken for the classes: {told}"
        return {number: place for place, number in enumerate(occurring)}, (assumed,)
    known = {comparable(label): index for index, label in enumerate(labels)}
    unknown = [names[number] for number in occurring if comparable(names[number]) not in known]
    if unknown:
        raise DataError(
            f"{file} has boxes of categories that are no classes of the model: {listed(unknown)}",
            "rename the categories to the model's labels, or export with --labels FILE that has their names",
        )
    return {number: known[comparable(names[number])] for number in occurring}, ()


def _image_path(file: Path, name: str) -> Path:
    """Return the path of an image, which must lie in the folder of the JSON file."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise DataError(f"{file} names the image {name!r}, outside of its folder", "give paths relative to the images")
    for folder in (file.parent / IMAGES, file.parent):
        if (folder / relative).is_file():
            return folder / relative
    raise DataError(f"{file} names the image {name!r}, which is neither beside it nor in {IMAGES}/", _HINT)
