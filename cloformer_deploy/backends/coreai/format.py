"""Write Core AI assets: a program from torch.export, by Apple's coreai-torch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, ExportSpec, Runtime, Suppression, TensorReader
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.backends.coreai.runtime import CoreAI, CoreAIInterpreter
from cloformer_deploy.backends.coreai.targets import TARGETS
from cloformer_deploy.backends.description import Description, Section
from cloformer_deploy.backends.device_opener import Opener
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
    conversion_s = 10
    image_colors: tuple[str, ...] = COLORS
    input_layout: Literal["NCHW", "NHWC"] = "NCHW"
    targets = TARGETS
    dynamic_batch = False
    category_map = False  # argmax has been silently wrong on Apple's accelerators (apple/coreai-torch 116)
    suppression: Suppression | None = None
    graph_keys = None
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
        from cloformer_deploy.backends.coreai.half import Half
        from cloformer_deploy.backends.coreai.quantize import clipped, quantized
        from cloformer_deploy.backends.interface import output_names, with_interface

        example = torch.zeros(spec.shape, dtype=torch.uint8 if spec.input_kind == "image" else torch.float32)
        names = ([INPUT_NAME], output_names(spec))
        for precision, path in paths.items():
            model: nn.Module = spec.model
            rounded: Sequence[str] = ()
            if spec.quantized is not None:
                model, rounded = quantized(spec, spec.quantized)
            if precision != "fp32":
                model = Half(model)
            module = with_interface(dataclasses.replace(spec, model=model)).eval()
            api.convert(module, (example,), names, path, f"{spec.title}, {precision}")
            shares = clipped(api.read(path), spec.quantized, rounded) if spec.quantized and rounded else {}
            api.add_metadata(path, metadata.prefixed(spec, precision, shares))
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Backend.describe`."""
        from cloformer_deploy.backends.coreai.describe import describe

        return describe(path)

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """See `Backend.inspect`: known wrong results of accelerators."""
        from cloformer_deploy.backends.coreai.lints import section

        return (section(process.read(path)),)

    def open_tensors(self, path: Path) -> TensorReader:
        """See `Backend.open_tensors`."""
        from cloformer_deploy.backends.coreai.tensors import open_tensors

        return open_tensors(path)

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """See `Backend.weight_differences`."""
        from cloformer_deploy.backends.coreai.weights import weight_differences

        expected = {name: value.numpy() for name, value in lowered.state_dict().items() if value.is_floating_point()}
        return weight_differences(process.read(path), expected)
