"""Pictures of answers for some images: PyTorch's, each artifact's, and where they differ, for tasks that can be drawn.

To draw a task: an object that follows `Drawing`, and an entry in `DRAWINGS`.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.data.masks import palette
from cloformer_deploy.report.html.boxes import Boxes
from cloformer_deploy.report.html.maps import Maps
from cloformer_deploy.tasks import Outputs

if TYPE_CHECKING:
    from cloformer_deploy.gate import Gate
    from cloformer_deploy.validation.bundle_work import Candidate
    from cloformer_deploy.validation.evaluation import Evaluation

SHOWN = 4
"""Images that are shown: those on which the artifacts agree least with PyTorch."""
Pixels = NDArray[np.uint8]


class Drawing(Protocol):
    """The pictures of one task.

    Attributes:
        title: heading of the section.
        explanation: what the pictures show, in sentences.
        first_color: index of the first class's color in `data.masks.palette`.
    """

    title: str
    explanation: str
    first_color: int

    def answer(self, image: Image.Image, outputs: Outputs) -> Image.Image:
        """Draw the outputs for one image, of batch 1."""
        ...

    def truth(self, image: Image.Image, truth: NDArray[Any]) -> Image.Image:
        """Draw what is right in the image; see `data.Batch.truths`."""
        ...

    def difference(self, image: Image.Image, expected: Outputs, found: Outputs) -> Image.Image:
        """Draw where an artifact differs from PyTorch."""
        ...

    def agreement(self, evidence: bytes) -> float:
        """Return the agreement on one image, 0..1, from `Task.evidence`."""
        ...


DRAWINGS: Mapping[str, Drawing] = {"segmentation": Maps(), "detection": Boxes()}
"""By the name of the task."""


@dataclass(frozen=True)
class ArtifactPicture:
    """An artifact's answer for one image.

    Attributes:
        artifact: its manifest entry.
        answer: its picture, as a data URI.
        difference: likewise.
        share: its agreement with PyTorch, 0..1.
    """

    artifact: Artifact
    answer: str
    difference: str
    share: float


@dataclass(frozen=True)
class PictureRow:
    """One image; pictures are data URIs.

    Attributes:
        number: of the image in the data, from 1.
        image: the image at the model's input size.
        truth: what is right; None where nothing says it.
        reference: PyTorch's answer.
        artifacts: of each artifact that was executed.
    """

    number: int
    image: str
    truth: str | None
    reference: str
    artifacts: tuple[ArtifactPicture, ...]


def picture_rows(bundle: Bundle, result: "Gate", images: Dataset) -> tuple[PictureRow, ...]:
    """Return the pictures of some images; nothing for tasks without any, or where nothing was executed.

    Args:
        bundle: the subject.
        result: the gate's result on the images.
        images: the same images.
    """
    from cloformer_deploy.validation.evaluation import Evaluation

    drawing = DRAWINGS.get(result.task)
    lots = [cell.evidence for cell in result.cells if cell.evidence]
    if drawing is None or not lots:
        return ()
    evaluation = Evaluation(bundle, images)
    candidates = [item for item in evaluation.candidates if item.lack is None]
    agreements = [sum(drawing.agreement(lot[index]) for lot in lots) for index in range(len(images))]
    least = sorted(np.argsort(agreements, kind="stable")[:SHOWN].tolist())
    return tuple(_row(index, drawing, evaluation, candidates) for index in least)


def _row(index: int, drawing: Drawing, evaluation: "Evaluation", candidates: Sequence["Candidate"]) -> PictureRow:
    """Run PyTorch and the artifacts on one image."""
    preprocessing = evaluation.bundle.manifest.preprocessing
    pixels = evaluation.images.load(index, preprocessing)
    truth = evaluation.images.truth(index, preprocessing)
    expected = evaluation.reference(preprocessing.normalize(pixels[None]))
    image = Image.fromarray(pixels[:3].transpose(1, 2, 0) if len(pixels) >= 3 else pixels[0]).convert("RGB")
    made = []
    for item in candidates:
        found = item.outputs(pixels[None], expected)
        (evidence,) = evaluation.task.evidence(found, expected)
        answer, difference = _uri(drawing.answer(image, found)), _uri(drawing.difference(image, expected, found))
        made.append(ArtifactPicture(item.artifact, answer, difference, drawing.agreement(evidence)))
    right = None if truth is None else _uri(drawing.truth(image, truth))
    return PictureRow(index + 1, _uri(image), right, _uri(drawing.answer(image, expected)), tuple(made))


def _uri(image: Image.Image) -> str:
    """Return a data URI: JPEG for photographs, PNG for what has few colors."""
    kind = "JPEG" if image.mode == "RGB" else "PNG"
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def legend(labels: Iterable[str], first_color: int) -> list[tuple[str, str]]:
    """Return each class with its color, as CSS writes it."""
    colors = palette().tolist()[first_color:]
    return [
        (label, f"#{red:02x}{green:02x}{blue:02x}") for label, (red, green, blue) in zip(labels, colors, strict=False)
    ]
