"""Image classification: one logit per class, judged by top-1 accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.tasks.base import ClassChange, Comparison, Output, Outputs, Truths
from cloformer_deploy.tasks.limits import LIMITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloformer_deploy.data import Dataset

LOGITS = Output("logits", ("batch", "classes"), "one value per class, before the softmax", centered=True)
LABELED_COUNT = 1000
UNLABELED_COUNT = 16
"""Rendered images that are used without a folder: accuracy takes many, numerical distance a few."""
_NOT_FINITE = -1
"""Stands for the class of an image whose logits, or PyTorch's, hold NaN or infinity: it is never right."""


class Classification:
    """See `Task`."""

    name = "classification"
    metric: str | None = "top1"
    metric_title = "top-1"
    margin = True
    outputs: tuple[Output, ...] = (LOGITS,)
    class_logits: str | None = LOGITS.name
    pixel_logits: str | None = None
    cells: tuple[str, str] | None = None
    labels_hint = "one sub-folder per class"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`."""
        return LIMITS[precision]

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: a folder, or without one rendered images, labeled if the classes are theirs."""
        from cloformer_deploy.data import RenderedImages, open_folder
        from cloformer_deploy.data.rendered import CLASSES

        if path is not None:
            return open_folder(path, num_classes, labels)
        # Of the test split: ranges are measured on images of the calibration split.
        labeled = labels is not None and tuple(labels) == CLASSES
        return RenderedImages("test", range(LABELED_COUNT if labeled else UNLABELED_COUNT), labeled)

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: the class with the largest logit; of a single logit whether it is positive."""
        import numpy as np

        from cloformer_deploy.tasks.distances import finite_images

        logits = outputs[LOGITS.name]
        finite = finite_images(outputs, self.outputs) & finite_images(expected, self.outputs)
        answers = logits.argmax(axis=1) if logits.shape[1] > 1 else logits[:, 0] > 0
        classes = np.where(finite, answers, _NOT_FINITE).astype("<i4")
        return [item.tobytes() for item in classes]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`."""
        return list(_classes(evidence))

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`."""
        import numpy as np

        from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp, share_ci95

        before, after, n = _classes(expected), _classes(found), len(found)
        agreeing = int(((before == after) & (after != _NOT_FINITE)).sum())
        found_agreement = Comparison(
            n=n,
            agreement=agreeing / n,
            agreement_ci95=share_ci95(agreeing, n),
            agreement_detail=f"the same first class as PyTorch on {agreeing} of {n} images",
            metric=self.metric,
        )
        if targets is None:
            return found_agreement
        labels = np.asarray(targets)
        right_before, right_after = ((each == labels) & (each != _NOT_FINITE) for each in (before, after))
        lost, gained = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
        return replace(
            found_agreement,
            score=float(right_after.mean()),
            score_ci95=share_ci95(int(right_after.sum()), n),
            drop_pp=100 * (lost - gained) / n,
            drop_ci95_pp=paired_difference_ci95_pp(lost, gained, n),
            drop_detail=f"{lost} lost, {gained} gained of {n}",
            chance=_chance(after, labels),
            classes=tuple(_class_changes(labels, right_before, right_after)),
        )

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: classes in another order."""
        import numpy as np

        from cloformer_deploy.tasks.class_order import order_of, order_sentence

        theirs, logits = expected[LOGITS.name], found[LOGITS.name]
        order = order_of(theirs, logits)
        if (order == np.arange(len(order))).all():
            return
        what, sorted_logits = order_sentence(order, labels), theirs[:, order]
        yield f"{what}: in that order {self._told(sorted_logits, logits)}, in its own {self._told(theirs, logits)}"

    def _told(self, expected: "NDArray[np.float32]", found: "NDArray[np.float32]") -> str:
        from cloformer_deploy.tasks.distances import centered, sqnr_db

        signal, other = centered(expected), centered(found)
        db = sqnr_db(float((signal**2).sum()), float(((signal - other) ** 2).sum()))
        share = float((expected.argmax(axis=1) == found.argmax(axis=1)).mean())
        return f"PyTorch agrees on {share * 100:.0f} % of {len(found)} images ({db:.1f} dB)"


def _classes(evidence: Sequence[bytes]) -> "NDArray[np.int32]":
    import numpy as np

    return np.frombuffer(b"".join(evidence), "<i4").astype(np.int32)


def _chance(answers: "NDArray[np.int32]", labels: "NDArray[Any]") -> float:
    """Return the share that would be right if the answers did not depend on the images."""
    import numpy as np

    return float(sum(float((answers == index).mean() * (labels == index).mean()) for index in np.unique(labels)))


def _class_changes(
    labels: "NDArray[Any]", before: "NDArray[np.bool_]", after: "NDArray[np.bool_]"
) -> Sequence[ClassChange]:
    """Return each class with an image that only one of the two has right; the surest loss first.

    The test is McNemar's, exact.
    """
    import numpy as np
    from scipy.stats import binomtest

    from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp

    changed = np.unique(labels[before != after])
    found = []
    for index in changed:
        mine = labels == index
        lost, gained = int((mine & before & ~after).sum()), int((mine & ~before & after).sum())
        n, p_value = int(mine.sum()), min(1.0, float(binomtest(lost, lost + gained).pvalue) * len(changed))
        interval = paired_difference_ci95_pp(lost, gained, n)
        detail = f"{lost} lost, {gained} gained of {n}"
        found.append(ClassChange(int(index), n, 100 * (lost - gained) / n, interval, p_value, detail))
    return sorted(found, key=lambda item: (item.p_value, -item.drop_pp))
