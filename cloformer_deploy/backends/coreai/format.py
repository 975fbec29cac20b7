"""Write Core AI assets: a program from torch.export, by Apple's coreai-torch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, ExportSpec, Opener, Runtime, Suppression, TensorReader
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.backends.coreai.runtime import CoreAI, CoreAIInterpreter
from cloformer_deploy.backends.coreai.targets import TARGETS
from cloformer_deploy.backends.description import Description, Section
from cloformer_deploy.backends.target import Target
from cloformer_deploy.networks.base import COLORS
from cloformer_deploy.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.backends.coreai.options import CoreAIOptions
    from cloformer_deploy.backends.options import Options


class CoreAIBackend:
    """See `Backend`."""

    name = "coreai"
    suffix = ".aimodel"
    extra = process.EXTRA
    packages: tuple[str, ...] = ("coreai-core", "coreai-torch")
    modules: tuple[str, ...] = process.MODULES
    image_colors: tuple[str, ...] = COLORS
    input_layout: Literal["NCHW", "NHWC"] = "NCHW"
    targets = TARGETS
    dynamic_batch = False
    category_map = False  # argmax has been silently wrong on Apple's accelerators (apple/coreai-torch 116)
    suppression: Suppression | None = None
    runtimes: Sequence[Runtime] = (CoreAI(), CoreAIInterpreter())
    opener = Opener(
        Path(__file__).with_name("opener.py"), ("coreai.runtime",), "numpy coreai-core==1.0.0b3", system="Darwin"
    )

    @property
    def options(self) -> type["CoreAIOptions"]:
        """See `Backend.options`."""
        from cloformer_deploy.backends.coreai.options import CoreAIOptions

        return CoreAIOptions

    def check(
        self, options: "Options", target: Target, precisions: Sequence[str], input_kind: str, batch: int | None
    ) -> None:
        """See `Backend.check`: every file can be made where the packages exist."""
        process.require_packages()

    def convert(self, spec: ExportSpec, paths: Mapping[str, Path], progress: Progress) -> Iterator[str]:
        """See `Backend.convert`."""
        import torch

        from cloformer_deploy.backends.coreai import api
        from cloformer_deploy.backends.interface import output_names, with_interface

        dtype = torch.uint8 if spec.input_kind == "image" else torch.float32
        for precision, path in paths.items():
            model, clipped = _model(spec, precision)
            module = with_interface(dataclasses.replace(spec, model=model))
            names = ([INPUT_NAME], output_names(spec))
            title, stored = f"{spec.title}, {precision}", metadata.prefixed(spec, precision, {})
            api.convert(module, (torch.zeros(spec.shape, dtype=dtype),), names, path, title, stored)
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Backend.describe`."""
        from cloformer_deploy.backends.coreai.describe import describe

        return describe(path)

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """See `Backend.inspect`: known wrong results of accelerators."""
        return ()

    def open_tensors(self, path: Path) -> TensorReader:
        """See `Backend.open_tensors`."""
        from cloformer_deploy.backends.coreai.tensors import open_tensors

        return open_tensors(path)

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """See `Backend.weight_differences`."""
        from cloformer_deploy.backends.coreai.weights import weight_differences

        expected = {name: value.numpy() for name, value in lowered.state_dict().items() if value.is_floating_point()}
        return weight_differences(process.read(path), expected)


def _model(spec: ExportSpec, precision: str) -> tuple["nn.Module", Mapping[str, float]]:
    """Return the model to convert: float32, or float16 inside with float32 around it."""
    from cloformer_deploy.backends.coreai.half import Half

    model: Any = spec.model
    clipped: Mapping[str, float] = {}
    if spec.quantized is not None:
        from cloformer_deploy.backends.coreai.quantize import quantized

        model, clipped = quantized(spec, spec.quantized)
    return (model if precision == "fp32" else Half(model)), clipped
