"""Maps of classes for some images: PyTorch's, each artifact's, and where they differ. Only for tasks that have maps."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.data.masks import palette
from cloformer_deploy.tasks import task_of

if TYPE_CHECKING:
    from cloformer_deploy.gate import Gate
    from cloformer_deploy.validation.evaluation import Candidate, Evaluation

SHOWN = 4
"""Images that are shown: those on which the artifacts agree least with PyTorch."""
Classes = NDArray[np.uint8]


@dataclass(frozen=True)
class ArtifactMap:
    """An artifact's map of one image.

    Attributes:
        artifact: its manifest entry.
        classes: the map, as a data URI.
        differing: the pixels whose class is not PyTorch's, white on black, as a data URI.
        share: share of the other pixels, 0..1.
    """

    artifact: Artifact
    classes: str
    differing: str
    share: float


@dataclass(frozen=True)
class MapRow:
    """One image; pictures are data URIs.

    Attributes:
        number: of the image in the data, from 1.
        image: the image at the model's input size.
        mask: the right classes; None without masks.
        reference: PyTorch's map.
        artifacts: of each artifact that was executed.
    """

    number: int
    image: str
    mask: str | None
    reference: str
    artifacts: tuple[ArtifactMap, ...]


def map_rows(bundle: Bundle, result: "Gate", images: Dataset) -> tuple[MapRow, ...]:
    """Return the maps of some images; nothing for tasks without maps, or where nothing was executed.

    Args:
        bundle: the subject.
        result: the gate's result on the images.
        images: the same images.
    """
    from cloformer_deploy.validation.evaluation import Evaluation

    task = task_of(bundle.manifest)
    cells = [cell for cell in result.cells if cell.evidence]
    if task.pixel_logits is None or not cells:
        return ()
    evaluation, preprocessing = Evaluation(bundle, images), bundle.manifest.preprocessing
    candidates = [item for item in evaluation.candidates if item.lack is None]
    return tuple(
        _row(index, images.load(index, preprocessing), images.truth(index, preprocessing), evaluation, candidates)
        for index in _least_agreed(result, len(images))
    )


def _row(
    index: int, pixels: Classes, mask: Classes | None, evaluation: "Evaluation", candidates: Sequence["Candidate"]
) -> MapRow:
    """Run PyTorch and the artifacts on one image, (C, H, W)."""
    from cloformer_deploy.tasks.segmentation import classes_of

    name = str(evaluation.task.pixel_logits)
    expected = evaluation.reference(evaluation.bundle.manifest.preprocessing.normalize(pixels[None]))
    reference = classes_of(expected[name][0])
    made = []
    for item in candidates:
        found = classes_of(item.outputs(pixels[None], expected)[name][0])
        differing = found != reference
        uris = _map_uri(found), _uri(Image.fromarray(differing), "PNG")
        made.append(ArtifactMap(item.artifact, *uris, 1 - float(differing.mean())))
    image = Image.fromarray(pixels[:3].transpose(1, 2, 0) if len(pixels) >= 3 else pixels[0])
    drawn_mask = None if mask is None else _map_uri(mask)
    return MapRow(index + 1, _uri(image, "JPEG"), drawn_mask, _map_uri(reference), tuple(made))


def _least_agreed(result: "Gate", count: int) -> Sequence[int]:
    """Return the images on which all executed artifacts together agree least with PyTorch."""
    from cloformer_deploy.tasks import TASKS

    task = TASKS[result.task]
    evidence = [cell.evidence for cell in result.cells if cell.evidence]

    def agreement(index: int) -> float:
        return sum(task.compare([lot[index]], [lot[index]], None).agreement for lot in evidence)

    return sorted(sorted(range(count), key=agreement)[:SHOWN])


def _map_uri(classes: Classes) -> str:
    image = Image.fromarray(classes)
    image.putpalette(palette().tobytes())
    return _uri(image, "PNG")


def _uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def legend(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Return each class with its color, as CSS writes it."""
    colors = palette().tolist()
    return [
        (label, f"#{red:02x}{green:02x}{blue:02x}") for label, (red, green, blue) in zip(labels, colors, strict=False)
    ]
