"""Object detection: boxes and scores of cells, judged by COCO's average precision."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.tasks.base import Comparison, Output, Outputs, Truths
from cloformer_deploy.tasks.limits import LIMITS

if TYPE_CHECKING:
    from cloformer_deploy.data import Dataset
    from cloformer_deploy.tasks.boxes import Detections

BOXES = Output("boxes", ("batch", "cells", "edges"), "left, top, right and bottom edge of each cell's box, 0 to 1")
SCORES = Output("scores", ("batch", "cells", "classes"), "score of each cell and class, 0 to 1")
AGREED_SCORE = 0.3
"""PyTorch's detections from this score on count for the agreement."""
AGREED_OVERLAP = 0.9
"""Intersection over union from which on a detection is the same."""
LABELED_COUNT = 500
UNLABELED_COUNT = 16
"""Rendered scenes that are used without a folder."""
_HEAD = struct.Struct("<III")
_THRESHOLDS = LIMITS | {"int8": {**LIMITS["int8"], "agreement": 0.95}}


class Detection:
    """See `Task`. Detections are the boxes that `boxes.detections` keeps of the cells."""

    name = "detection"
    metric: str | None = "ap"
    metric_title = "AP"
    outputs: tuple[Output, ...] = (BOXES, SCORES)
    class_logits: str | None = None
    pixel_logits: str | None = None
    cells: tuple[str, str] | None = (BOXES.name, SCORES.name)
    margin = False
    labels_hint = "COCO: a folder with annotations.json and images/, or the JSON file"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`."""
        return _THRESHOLDS[precision]

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: COCO annotations or images alone; without a path rendered scenes.

        Scenes have boxes if the classes are theirs.
        """
        from cloformer_deploy.data import RenderedScenes, open_coco, open_images
        from cloformer_deploy.data.coco import is_coco
        from cloformer_deploy.data.rendered import CLASSES

        if path is not None:
            return open_coco(path, num_classes, labels) if is_coco(path) else open_images(path)
        labeled = labels is not None and tuple(labels) == CLASSES
        return RenderedScenes(
            "test", range(LABELED_COUNT if labeled else UNLABELED_COUNT), "boxes" if labeled else None
        )

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: detections with their matches (`average_precision.packed`), and their agreement."""
        from cloformer_deploy.tasks.average_precision import Objects, packed
        from cloformer_deploy.tasks.distances import finite_images

        finite = finite_images(outputs, self.outputs) & finite_images(expected, self.outputs)
        found = []
        for index in range(len(finite)):
            theirs = detections_of(expected, index)
            mine = detections_of(outputs, index, None if finite[index] else math.inf)
            objects = None if truths is None else Objects.of(truths[index])
            head = _HEAD.pack(*_agreeing(theirs, mine), objects is not None)
            found.append(head + packed(mine, objects, outputs[SCORES.name].shape[2]))
        return found

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`: the agreement is in the evidence itself."""
        return [None] * len(evidence)

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`. With boxes the drop is of the average precision; else with targets of the agreement."""
        import numpy as np

        from cloformer_deploy.tasks import bootstrap, precision_drops
        from cloformer_deploy.tasks.average_precision import class_count, unpacked

        heads = np.array([[_HEAD.unpack_from(item) for item in side] for side in (expected, found)], np.float64)
        (old_same, new_same), total = heads[:, :, 0], heads[1, :, 1]
        count = int(total.sum())
        compared = Comparison(
            n=len(found),
            agreement=float(new_same.sum() / count) if count else 0.0,
            agreement_ci95=bootstrap.share_ci95(new_same, total) if count else (0.0, 1.0),
            agreement_detail=f"the same box and class for {int(new_same.sum())} of PyTorch's {count} detections "
            f"(score >= {AGREED_SCORE:g}, IoU >= {AGREED_OVERLAP:g}) in {len(found)} images",
            metric=self.metric,
        )
        if not heads[1, :, 2].all():
            if targets is None or not count:
                return compared
            return replace(
                compared,
                score=compared.agreement,
                drop_pp=100 * float((old_same - new_same).sum() / count),
                drop_ci95_pp=bootstrap.share_drop_ci95_pp(old_same, new_same, total),
                drop_detail=f"detections in {len(found)}",
            )
        rows = [[item[_HEAD.size :] for item in side] for side in (expected, found)]
        classes = class_count(rows[0][0])
        before, after = (unpacked(side, classes) for side in rows)
        if not before:
            return compared
        old, new = precision_drops.score(before), precision_drops.score(after)
        drops = precision_drops.drops(before, after)
        half = precision_drops.at_half(after)
        return replace(
            compared,
            score=new,
            score_ci95=precision_drops.score_ci95(after),
            drop_pp=100 * (old - new),
            drop_ci95_pp=drops.interval,
            drop_detail=f"{old:.2%} and {new:.2%}, AP50 {half:.2%}, {len(found)}",
            chance=precision_drops.score(unpacked(rows[1], classes, elsewhere=True)),
            classes=drops.classes,
        )

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: boxes in another form or moved, classes in another order, scores that are none."""
        from cloformer_deploy.tasks.box_mistakes import named_of_boxes, named_of_scores

        yield from named_of_boxes(expected[BOXES.name], found[BOXES.name])
        yield from named_of_scores(expected[SCORES.name], found[SCORES.name], labels)


def detections_of(outputs: Outputs, index: int, least_score: float | None = None) -> "Detections":
    """Return the detections of an image of a batch: those that count for the metric, or from a score on."""
    from cloformer_deploy.tasks.boxes import LEAST_SCORE, detections

    least = LEAST_SCORE if least_score is None else least_score
    return detections(outputs[BOXES.name][index], outputs[SCORES.name][index], least)


def agreed(evidence: bytes) -> tuple[int, int]:
    """Return how many of PyTorch's detections an artifact has too, and how many there are, from `Task.evidence`."""
    same, count, _ = _HEAD.unpack_from(evidence)
    return same, count


def _agreeing(theirs: "Detections", mine: "Detections") -> tuple[int, int]:
    """Return how many of PyTorch's detections above `AGREED_SCORE` an artifact has too, and how many there are.

    Each of PyTorch's, the highest score first, takes the artifact's detection of its class that it overlaps most, of
    those that no other took.
    """
    import numpy as np

    from cloformer_deploy.tasks.boxes import overlaps

    count = int((theirs.scores >= AGREED_SCORE).sum())
    shared = overlaps(theirs.boxes[:count], mine.boxes)
    shared[theirs.classes[:count, None] != mine.classes[None, :]] = 0
    same = 0
    for row in shared if shared.size else ():
        best = int(np.argmax(row))
        if row[best] >= AGREED_OVERLAP:
            same += 1
            shared[:, best] = 0
    return same, count
