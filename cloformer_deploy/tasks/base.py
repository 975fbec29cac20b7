"""The Protocol of tasks, and the record that compares an artifact with PyTorch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloformer_deploy.data import Dataset

Outputs: TypeAlias = Mapping[str, "NDArray[np.float32]"]
"""Output arrays of a network or artifact by name; the first axis of each is the batch."""
Truths: TypeAlias = Sequence["NDArray[Any]"]
"""The truth of each of some images, for tasks where it is no single class; see `data.batches.Batch`."""
Scores = Literal["softmax", "sigmoid"]
"""The function that turns logits into scores: of one class among all, or of each class by itself."""
Interval = tuple[float, float]
"""Ends of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Output:
    """One output of a network.

    Attributes:
        name: in every artifact.
        axes: names of the axes in the network's own layout (channels first), such as ("batch", "classes").
        description: for the artifact's own metadata.
        centered: signal and cosine are measured after subtracting each image's mean over the second axis, unless that
            axis has one value: a large mean would hide errors of the rest.
    """

    name: str
    axes: tuple[str, ...]
    description: str
    centered: bool = False


@dataclass(frozen=True)
class ClassChange:
    """A class whose own score an artifact changes.

    Attributes:
        index: the class.
        n: images in which it occurs.
        drop_pp: fall of its score against PyTorch, percentage points (negative: a gain).
        drop_ci95_pp: its 95 % interval.
        p_value: of the change, times the number of classes that changed (Bonferroni).
        detail: the counts behind it, in words.
    """

    index: int
    n: int
    drop_pp: float
    drop_ci95_pp: Interval
    p_value: float
    detail: str


@dataclass(frozen=True)
class Comparison:
    """An artifact compared with PyTorch on the same images. Figures that could not be measured are None.

    Attributes:
        n: images.
        agreement: share of images (or of what the task counts) with the same answer as PyTorch, 0..1.
        agreement_ci95: its 95 % interval.
        agreement_detail: the counts behind it, in words.
        metric: name of the task's metric; None where the task has none.
        score: the artifact's metric, 0..1; None without labels.
        score_ci95: its 95 % interval.
        drop_pp: fall of the metric against PyTorch, percentage points (negative: a gain); paired.
        drop_ci95_pp: its 95 % interval.
        drop_detail: the counts behind it, in words.
        chance: score that answers in the same proportions, independent of the images, would have (J. Cohen, "A
            Coefficient of Agreement for Nominal Scales", 1960), 0..1.
        classes: classes that changed, the surest loss first.
        non_finite: images with NaN or infinity in an output.
        first_non_finite: index of the first of them.
        max_abs_diff: largest absolute difference of any output value.
        sqnr_db: signal-to-noise ratio of the outputs over all images, dB (see `tasks.distances`).
        sqnr_ci95_db: its 95 % interval.
        cosine_min: lowest cosine similarity of any image's outputs.
    """

    n: int
    agreement: float
    agreement_ci95: Interval
    agreement_detail: str
    metric: str | None = None
    score: float | None = None
    score_ci95: Interval | None = None
    drop_pp: float | None = None
    drop_ci95_pp: Interval | None = None
    drop_detail: str = ""
    chance: float | None = None
    classes: tuple[ClassChange, ...] = ()
    non_finite: int = 0
    first_non_finite: int | None = None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    sqnr_ci95_db: Interval | None = None
    cosine_min: float | None = None

    @property
    def smallest_drop_pp(self) -> float | None:
        """Half the width of the drop's interval: the smallest drop that so many images distinguish from none, pp."""
        return None if self.drop_ci95_pp is None else (self.drop_ci95_pp[1] - self.drop_ci95_pp[0]) / 2

    def images_needed(self, drop_pp: float) -> int | None:
        """Return how many images distinguish a drop of so many percentage points from none; None without labels."""
        half = self.smallest_drop_pp
        return None if half is None else math.ceil(self.n * (half / drop_pp) ** 2)


class Task(Protocol):
    """The meaning of a network's outputs: their names, the data that judges them, and the metric.

    Attributes:
        name: key in `tasks.TASKS`, and the `task` of the manifest.
        metric: name of the metric in JSON; None where the task has none.
        metric_title: the metric in prose.
        margin: whether images are scaled with a margin that is cropped off, see `Preprocessing.published`.
        outputs: in the order in which the network returns them.
        class_logits: name of the output with one logit per class, for formats with a classifier interface; or None.
        pixel_logits: name of the output with one logit per class and pixel, for formats with a segmenter interface; or
            None.
        cells: names of the outputs with the boxes and the scores of cells, for formats with a detector interface; or
            None.
        labels_hint: form of labeled data, for error messages.
    """

    name: str
    metric: str | None
    metric_title: str
    margin: bool
    outputs: tuple[Output, ...]
    class_logits: str | None
    pixel_logits: str | None
    cells: tuple[str, str] | None
    labels_hint: str

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """Return the limits of artifacts of a precision.

        Keys: `agreement` (at least, 0..1), `sqnr_db` (at least), with a metric `drop_pp` (at most), and of some tasks
        `cosine_min` (at least).
        """
        ...

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """Open the images of a path, or the bundled images without one.

        Raises:
            DataError: they cannot be used.
        """
        ...

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """Return what `compare` needs of each image, in few bytes; equally many for each.

        Args:
            outputs: of PyTorch or of an artifact.
            expected: PyTorch's outputs of the same images.
            truths: what is right in each image, in the form of the task; None without.
        """
        ...

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """Return targets by which every image's evidence is right, to compare unlabeled results."""
        ...

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """Compare two lots of evidence of the same images; distances are left out.

        Args:
            expected: PyTorch's evidence, image by image.
            found: the artifact's.
            targets: the right classes of the images, or None. Truths are in the evidence.
        """
        ...

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """Name mistakes of this task's outputs that explain an artifact's, such as permuted classes, in sentences.

        Args:
            expected: PyTorch's outputs; finite.
            found: the artifact's, of the same images; finite.
            labels: names of the classes.
        """
        ...
