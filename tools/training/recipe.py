"""The settings that decide the resulting weights: schedule of image sizes, learning rate and all others."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from cloformer_deploy.errors import RequestError
from cloformer_deploy.networks.base import INPUT_MULTIPLE

WARM_UP_SHARE = 0.05
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
CLIP_NORM = 2.0

_GIVE_SCHEDULE = "give px:epochs pairs like 64:15,96:9,224:1.5, or HEIGHTxWIDTH for px"

Size = tuple[int, int]
"""Height and width in px."""


@dataclass(frozen=True)
class Stage:
    """A part of the training at one image size, height and width in px; length in epochs (fractions are allowed)."""

    size: Size
    epochs: float

    def __str__(self) -> str:
        return f"{sized(self.size)}:{self.epochs:g}"


def sized(size: Size) -> str:
    """A size as it is written in a schedule."""
    return f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"


def parse_schedule(text: str) -> tuple[Stage, ...]:
    """Read `px:epochs,px:epochs,...`, where px is a side or HEIGHTxWIDTH.

    Raises:
        RequestError: not of that form, a size that is no multiple of 32, or epochs that are not positive.
    """
    stages = []
    for part in text.split(","):
        size_text, _, epochs_text = part.partition(":")
        try:
            height, _, width = size_text.partition("x")
            stage = Stage((int(height), int(width or height)), float(epochs_text))
        except ValueError as error:
            raise RequestError(f"{part!r} in the schedule is not px:epochs", _GIVE_SCHEDULE) from error
        for side in stage.size:
            if side < INPUT_MULTIPLE or side % INPUT_MULTIPLE:
                raise RequestError(f"size {side} is not a positive multiple of {INPUT_MULTIPLE}", _GIVE_SCHEDULE)
        if not 0 < stage.epochs < math.inf:
            raise RequestError(f"{stage.epochs} epochs in the schedule are not a positive number", _GIVE_SCHEDULE)
        stages.append(stage)
    return tuple(stages)


@dataclass(frozen=True)
class Recipe:
    """Every setting that has a say in the weights; what only changes the speed is left out.

    Attributes:
        task: that is trained, a key of `objectives.OBJECTIVES`.
        variant: a key of `VARIANTS`.
        labels: the classes, in the head's order.
        data: the training images' identity, as their source tells it.
        num_images: how many they are.
        init: sha256 of the weights that training starts from, None for fresh ones.
        schedule: the stages, in order.
        seed: of the fresh weights, the order of the images, and the augmentation.
        batch: images a step; the last, smaller batch of an epoch is left out.
        peak_lr: learning rate after the warm-up.
        crop_area: lowest share of an image's area in a random crop, 0 to 1.
        augmentation: strength of jitter and cutout; 1 is meant for training from scratch, 0 leaves both out.
        ema: highest decay of the weights' moving average.
        sharpen: percent of unsharp mask, on average, for a crop that is scaled up to the double; None for none.
    """

    task: str
    variant: str
    labels: tuple[str, ...]
    data: str
    num_images: int
    init: str | None
    schedule: tuple[Stage, ...]
    seed: int = 0
    batch: int = 64
    peak_lr: float = 1.5e-3
    crop_area: float = 0.3
    augmentation: float = 1.0
    ema: float = 0.998
    sharpen: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "batch": (1 <= self.batch <= self.num_images, f"take 1 to {self.num_images} (the images)"),
            "peak_lr": (0 < self.peak_lr < math.inf, "take a positive learning rate such as 1.5e-3"),
            "crop_area": (0 < self.crop_area <= 1, "take a share above 0, at most 1"),
            "augmentation": (0 <= self.augmentation <= 2, "take a strength from 0 to 2"),
            "ema": (0 <= self.ema < 1, "take a decay from 0 to below 1"),
            "sharpen": (self.sharpen is None or 0 < self.sharpen <= 1000, "take a percentage from above 0 to 1000"),
            "seed": (0 <= self.seed < 2**32, "take a seed from 0 to 4294967295"),
        }
        for name, (valid, hint) in checks.items():
            if not valid:
                raise RequestError(f"{name} {getattr(self, name)} cannot be used", hint)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.num_images // self.batch

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """The step after the last of each stage, counted from the start of the training."""
        ends, epochs = [], 0.0
        for stage in self.schedule:
            epochs += stage.epochs
            ends.append(max(1, round(epochs * self.steps_per_epoch)))
        return tuple(ends)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.stage_ends[-1]

    def learning_rate(self, step: int) -> float:
        """Linear warm-up over the first 5 % of all steps, then a cosine that would reach 0 at step `steps`."""
        warm_up = max(1, round(WARM_UP_SHARE * self.steps))
        if step < warm_up:
            return self.peak_lr * (step + 1) / warm_up
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, self.steps - warm_up)))

    def fingerprint(self) -> dict[str, Any]:
        """The settings as numbers and texts, by which a saved state is known to be of this training."""
        fields = asdict(self)
        fields["labels"] = list(self.labels)
        fields["schedule"] = ",".join(str(stage) for stage in self.schedule)
        return fields
