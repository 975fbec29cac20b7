"""Tiny networks with maps, boxes or several outputs, and their conversion."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cloformer_deploy.backends.base import ExportSpec, InputKind
from cloformer_deploy.backends.registry import BACKENDS, default_target, target_of
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.progress import Silent
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import observe
from cloformer_deploy.quantization.plan import plan, quantized_operators, tensors
from cloformer_deploy.quantization.preparation import Prepared
from cloformer_deploy.tasks import Output
from tests.backends.specs import spec

SIDES = (64, 96)
PREPROCESSING = Preprocessing.published(*SIDES)
CLASSES = 3


class Tiny(nn.Module):
    """A stem of stride 4 and a 1x1 convolution; `outputs` says what `forward` of a subclass returns."""

    outputs: tuple[Output, ...]

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, CLASSES, 1)


class Segmentation(Tiny):
    """One map of class scores at stride 4, (B, 3, H / 4, W / 4)."""

    outputs: tuple[Output, ...] = (
        Output("logits", ("batch", "classes", "height", "width"), "class scores of each pixel", centered=True),
    )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the map."""
        out: Tensor = self.head(self.stem(x))
        return out


class Detection(Tiny):
    """Boxes (B, N, 4) and scores (B, N, 3) of each place; the scores are computed first, and returned last."""

    outputs = (
        Output("boxes", ("batch", "places", "corners"), "corners of each box, 0..1"),
        Output("scores", ("batch", "places", "classes"), "scores of each box, 0..1"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.corners = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to both."""
        features = self.stem(x)
        scores = self.head(features).flatten(2).transpose(1, 2).sigmoid()
        boxes = self.corners(features).flatten(2).transpose(1, 2).sigmoid()
        return boxes, scores


class Pyramid(Tiny):
    """Two maps of different strides, (B, 8, H / 4, W / 4) and (B, 6, H / 8, W / 8), and logits (B, 3).

    The first map is also computed from, and the names are in no alphabetical order.
    """

    outputs = (
        Output("fine", ("batch", "channels", "height", "width"), "features of stride 4"),
        Output("coarse", ("batch", "channels", "height", "width"), "features of stride 8"),
        Output("classes", ("batch", "classes"), "class scores of the image", centered=True),
    )

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 6, 2, 2)
        self.linear = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to all three."""
        fine = self.stem(x)
        coarse = self.down(fine)
        return fine, coarse, self.linear(coarse.mean(dim=(2, 3)))


MODELS: dict[str, type[Tiny]] = {item.__name__: item for item in (Segmentation, Detection, Pyramid)}


@dataclass(frozen=True)
class Case:
    """A file to make.

    Attributes:
        format: key of `BACKENDS`.
        model: key of `MODELS`.
        precision: fp32, fp16 or int8.
        input_kind: see `ExportSpec`.
        labels: the classes are named, where the model has class scores of the image.
    """

    format: str
    model: str
    precision: str
    input_kind: InputKind
    labels: bool = False

    def path(self, folder: Path) -> Path:
        """Return where its file is."""
        name = "-".join((self.model, self.precision, self.input_kind, *(["labels"] if self.labels else [])))
        return folder / f"{name}{BACKENDS[self.format].suffix}"


def tiny_model(name: str) -> Tiny:
    """Return a model with seeded weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name]().eval()


def convert(folder: Path, cases: list[Case]) -> None:
    """Write the files of some cases."""
    for case in cases:
        path = case.path(folder)
        written = BACKENDS[case.format].convert(_spec(case), {case.precision: path}, Silent())
        assert list(written) == [case.precision]


def _spec(case: Case) -> ExportSpec:
    model = tiny_model(case.model)
    names = [output.name for output in model.outputs]
    return spec(
        case.format,
        model,
        PREPROCESSING,
        outputs=model.outputs,
        class_logits="classes" if "classes" in names else None,
        scores="softmax",
        input_kind=case.input_kind,
        labels=("ant", "bee", "cat") if case.labels else None,
        quantized=_prepared(case, model) if case.precision == "int8" else None,
    )


def _prepared(case: Case, model: nn.Module) -> Prepared:
    recipe = target_of(case.format, default_target(case.format)).recipes[case.precision]
    traced = graph.trace(model, 3, *SIDES)
    read = tensors(traced, recipe, quantized_operators(traced, recipe))
    images = torch.from_numpy(PREPROCESSING.normalize(probe_images(8, PREPROCESSING)))
    seen = observe(traced, read, [images])
    return Prepared(model, traced, plan(traced, recipe, seen), seen)
