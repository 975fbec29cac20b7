"""A task in one file and one registry entry: whether the first score is the larger of the first two."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloformer_deploy.tasks import TASKS, Comparison, Output, Outputs
from cloformer_deploy.tasks.base import Truths
from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp, share_ci95

if TYPE_CHECKING:
    from cloformer_deploy.data import Dataset

SCORES = Output("scores", ("batch", "classes"), "a score per class")


class FirstOfTwo:
    """See `tasks.base.Task`."""

    name = "first-of-two"
    metric: str | None = "accuracy"
    metric_title = "accuracy"
    margin = True
    outputs: tuple[Output, ...] = (SCORES,)
    class_logits: str | None = None
    pixel_logits: str | None = None
    cells: tuple[str, str] | None = None
    labels_hint = "one sub-folder per class"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        return {"agreement": 0.99, "sqnr_db": 40.0, "drop_pp": 1.0}

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        from cloformer_deploy.data import RenderedImages, open_folder

        return open_folder(path, num_classes, labels) if path else RenderedImages("test", range(24))

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        scores = outputs[SCORES.name]
        return [bytes([bool(first > second)]) for first, second in scores[:, :2]]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        return [1 - item[0] for item in evidence]

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        n, same = len(found), sum(a == b for a, b in zip(expected, found, strict=True))
        made = Comparison(n, same / n, share_ci95(same, n), f"the same on {same} of {n} images", metric=self.metric)
        if targets is None:
            return made
        truth = np.asarray(targets) == 0
        before, after = (np.array([item[0] for item in each], bool) == truth for each in (expected, found))
        lost, gained = int((before & ~after).sum()), int((~before & after).sum())
        return replace(
            made,
            score=float(after.mean()),
            drop_pp=100 * (lost - gained) / n,
            drop_ci95_pp=paired_difference_ci95_pp(lost, gained, n),
            drop_detail=f"{lost} lost, {gained} gained of {n}",
        )

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        yield from ()


def register() -> None:
    """Make the one registry entry."""
    TASKS["first-of-two"] = FirstOfTwo()


register()
