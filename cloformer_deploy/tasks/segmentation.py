"""Semantic segmentation: logits of each class at stride 4, judged by the mean intersection over union."""

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
    from cloformer_deploy.tasks.pixels import PixelCounts

LOGITS = Output("logits", ("batch", "classes", "height", "width"), "one value per class and pixel", centered=True)
STRIDE = 4
"""Pixels of the image per pixel of the logits, along each side."""
LABELED_COUNT = 500
UNLABELED_COUNT = 16
"""Rendered scenes that are used without a folder."""
_THRESHOLDS = LIMITS | {"fp32": {**LIMITS["fp32"], "agreement": 0.9995}}
"""Limits by precision; the agreement is the share of pixels, of which few are near ties."""


class Segmentation:
    """See `Task`. The class of a pixel is that of the largest logit after bilinear upsampling to the input's size."""

    name = "segmentation"
    metric: str | None = "miou"
    metric_title = "mIoU"
    outputs: tuple[Output, ...] = (LOGITS,)
    class_logits: str | None = None
    pixel_logits: str | None = LOGITS.name
    cells: tuple[str, str] | None = None
    margin = False
    labels_hint = "a folder with images/ and masks/, whose PNG values are classes"

    def thresholds(self, precision: str) -> Mapping[str, float]:
        """See `Task.thresholds`."""
        return _THRESHOLDS[precision]

    def open_data(self, path: Path | None, num_classes: int, labels: Sequence[str] | None) -> "Dataset":
        """See `Task.open_data`: a folder with masks or of images alone; without one rendered scenes.

        Scenes have masks if the classes are theirs.
        """
        from cloformer_deploy.data import RenderedScenes, open_images, open_masks
        from cloformer_deploy.data.masks import has_masks
        from cloformer_deploy.data.rendered import SCENE_CLASSES

        if path is not None:
            return open_masks(path, num_classes) if has_masks(path) else open_images(path)
        labeled = labels is not None and tuple(labels) == SCENE_CLASSES
        return RenderedScenes(
            "test", range(LABELED_COUNT if labeled else UNLABELED_COUNT), "masks" if labeled else None
        )

    def evidence(self, outputs: Outputs, expected: Outputs, truths: Truths | None = None) -> list[bytes]:
        """See `Task.evidence`: counts of pixels (`pixels.packed`)."""
        from cloformer_deploy.tasks.distances import finite_images
        from cloformer_deploy.tasks.pixels import packed

        logits, theirs = outputs[LOGITS.name], expected[LOGITS.name]
        finite = finite_images(outputs, self.outputs) & finite_images(expected, self.outputs)
        return [
            packed(
                classes_of(logits[index]),
                classes_of(theirs[index]),
                None if truths is None else truths[index],
                logits.shape[1],
                valid=bool(finite[index]),
            )
            for index in range(len(logits))
        ]

    def pseudo_targets(self, evidence: Sequence[bytes]) -> Sequence[Any]:
        """See `Task.pseudo_targets`: the agreement is in the evidence itself."""
        return [None] * len(evidence)

    def compare(self, expected: Sequence[bytes], found: Sequence[bytes], targets: Sequence[Any] | None) -> Comparison:
        """See `Task.compare`. With masks the drop is of the mean IoU; else with targets of the agreement."""
        from cloformer_deploy.tasks import bootstrap, pixels

        before, after = pixels.unpacked(expected), pixels.unpacked(found)
        share = float(after.same.sum() / after.total.sum())
        compared = Comparison(
            n=len(found),
            agreement=share,
            agreement_ci95=bootstrap.share_ci95(after.same, after.total),
            agreement_detail=f"PyTorch's class on {share:.3%} of the pixels of {len(found)} images",
            metric=self.metric,
        )
        if not after.labeled:
            if targets is None:
                return compared
            drop = 100 * float((before.same - after.same).sum() / after.total.sum())
            interval = bootstrap.share_drop_ci95_pp(before.same, after.same, after.total)
            return replace(
                compared, score=share, drop_pp=drop, drop_ci95_pp=interval, drop_detail=f"pixels of {len(found)}"
            )
        old, new = pixels.score(before), pixels.score(after)
        accuracy = float(after.right.sum() / after.true.sum())
        return replace(
            compared,
            score=new,
            score_ci95=pixels.score_ci95(after),
            drop_pp=100 * (old - new),
            drop_ci95_pp=pixels.drop_ci95_pp(before, after),
            drop_detail=f"{old:.2%} and {new:.2%}, pixel accuracy {accuracy:.2%}, {len(found)}",
            chance=pixels.chance(after),
            classes=tuple(_class_changes(before, after)) if len(found) > 1 else (),
        )

    def diagnose(self, expected: Outputs, found: Outputs, labels: Sequence[str] | None) -> Iterator[str]:
        """See `Task.diagnose`: classes in another order, or the map turned, mirrored or moved."""
        from cloformer_deploy.tasks.map_mistakes import named

        yield from named(expected[LOGITS.name], found[LOGITS.name], labels)


def _class_changes(before: "PixelCounts", after: "PixelCounts") -> Sequence[ClassChange]:
    """Return each class whose IoU changed; the surest loss first."""
    import numpy as np

    from cloformer_deploy.tasks.pixels import class_drops

    drops = class_drops(before, after)
    changed = np.flatnonzero(drops.before != drops.after)
    found = [
        ClassChange(
            int(drops.index[place]),
            int(drops.images[place]),
            float(100 * (drops.before[place] - drops.after[place])),
            (float(drops.low[place]), float(drops.high[place])),
            min(1.0, float(drops.p_value[place]) * len(changed)),
            f"IoU {drops.before[place]:.1%} and {drops.after[place]:.1%}",
        )
        for place in changed
    ]
    return sorted(found, key=lambda item: (item.p_value, -item.drop_pp))


def classes_of(logits: "NDArray[np.float32]") -> "NDArray[np.uint8]":
    """Return the class of each pixel of an image, (H, W), from logits (classes, H / 4, W / 4)."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        wide = interpolate(torch.from_numpy(logits)[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
        return np.asarray(wide[0].argmax(0).numpy(), np.uint8)
