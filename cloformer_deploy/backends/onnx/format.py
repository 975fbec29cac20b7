"""Write ONNX files: torch.export, the ONNX exporter, and onnxsim, whose result is verified."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from cloformer_deploy import __version__
from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import (
    DETECTIONS,
    INPUT_NAME,
    ExportSpec,
    Runtime,
    Suppression,
    TensorReader,
)
from cloformer_deploy.backends.description import Description, GraphKeys, Section
from cloformer_deploy.backends.device_opener import Opener
from cloformer_deploy.backends.onnx.file import refuse_other_files
from cloformer_deploy.backends.onnx.runtime import OnnxRuntime
from cloformer_deploy.backends.onnx.targets import TARGETS
from cloformer_deploy.backends.target import Target
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.networks.base import COLORS
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.subprocesses import own_process

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from cloformer_deploy.backends.onnx.options import OnnxOptions
    from cloformer_deploy.backends.options import Options

SIMPLIFIER_TIMEOUT_S = 300
SIMPLIFIER_TOLERANCE = 1e-4
"""Largest change of any output value that simplification may cause (float32 rounding is about 1e-6)."""
KEPT = "the unsimplified graph was kept"


class OnnxBackend:
    """See `Backend`."""

    name = "onnx"
    suffix = ".onnx"
    extra = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime", "onnxsim", "onnxscript")
    modules: tuple[str, ...] = ("onnx", "onnxruntime", "onnxsim", "onnxscript")
    conversion_s = 7
    image_colors: tuple[str, ...] = COLORS
    input_layout: Literal["NCHW", "NHWC"] = "NCHW"
    targets = TARGETS
    dynamic_batch = True
    category_map = True
    suppression: Suppression | None = Suppression(DETECTIONS, best_class=False)
    runtimes: Sequence[Runtime] = (OnnxRuntime(),)
    opener = Opener(
        Path(__file__).with_name("opener.py"), ("onnxruntime",), "numpy onnxruntime", check=refuse_other_files
    )

    @property
    def graph_keys(self) -> Callable[[Path], GraphKeys]:
        """See `Backend.graph_keys`."""
        from cloformer_deploy.backends.onnx.tensors import graph_keys

        return graph_keys

    @property
    def options(self) -> type["OnnxOptions"]:
        """See `Backend.options`."""
        from cloformer_deploy.backends.onnx.options import OnnxOptions

        return OnnxOptions

    def check(
        self, options: "Options", target: Target, precisions: Sequence[str], input_kind: str, batch: int | None
    ) -> None:
        """See `Backend.check`: integers of 16 bits need the opset that has them."""
        from cloformer_deploy.backends.onnx.options import lowest_opset

        for precision in precisions:
            recipe = target.recipes.get(precision)
            opset, lowest = _opset(options.settled(recipe)), lowest_opset(recipe)
            if opset < lowest:
                raise RequestError(
                    f"ONNX opset {opset} has no 16-bit integers for {precision}",
                    f"leave --opset out for {lowest}, or choose from {', '.join(_in_every_opset(target))}",
                )

    def convert(self, spec: ExportSpec, paths: Mapping[str, Path], progress: Progress) -> Iterator[str]:
        """See `Backend.convert`."""
        import onnx

        from cloformer_deploy.backends.onnx.detections import add_detections
        from cloformer_deploy.backends.onnx.opsets import in_opset
        from cloformer_deploy.backends.onnx.quantize import quantized

        exported = _export(spec)
        try:
            model = _simplified(exported, spec, folder=next(iter(paths.values())).parent)
        except ToolError as error:
            progress.warn(f"{error.message}; {error.hint}")
            model = exported
        opset = _checked_opset(spec)
        for precision, path in paths.items():
            clipped: Mapping[str, float] = {}
            made = model
            if spec.quantized is not None:
                made, clipped = quantized(model, spec, spec.quantized)
            made = in_opset(made, opset)
            if precision == "fp16":
                made = _to_float16(made)
            if spec.has_detections and spec.cells is not None:
                add_detections(made, *spec.cells)
            made.metadata_props.clear()
            onnx.helper.set_model_props(made, metadata.prefixed(spec, precision, clipped))
            onnx.checker.check_model(made, full_check=True)
            onnx.save(made, path)
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Backend.describe`."""
        from cloformer_deploy.backends.onnx.describe import describe

        return describe(path)

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """See `Backend.inspect`: nothing beyond the description."""
        return ()

    def open_tensors(self, path: Path) -> TensorReader:
        """See `Backend.open_tensors`."""
        from cloformer_deploy.backends.onnx.tensors import open_tensors

        return open_tensors(path)

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """See `Backend.weight_differences`: the exporter renames and folds weights, so they cannot be compared."""
        return []


def _checked_opset(spec: ExportSpec) -> int:
    """Return the opset of a file.

    Raises:
        RequestError: it has layers in 16 bits, which that opset lacks.
    """
    from cloformer_deploy.backends.onnx.options import lowest_opset

    plan = spec.quantized.plan if spec.quantized is not None else None
    recipe, wide = (plan.recipe, bool(plan.wide)) if plan is not None else (None, False)
    opset = _opset(spec.options.settled(recipe, wide=wide))
    if opset < lowest_opset(recipe, wide=wide):
        raise RequestError(
            f"ONNX opset {opset} has no 16-bit integers for the layers outside int8", "leave --opset out"
        )
    return opset


def _opset(options: "Options") -> int:
    """Return the opset of a file whose options are settled."""
    opset = cast("OnnxOptions", options).opset
    assert opset is not None  # noqa: S101 - settled
    return opset


def _in_every_opset(target: Target) -> Iterator[str]:
    from cloformer_deploy.backends.onnx.options import OPSETS, lowest_opset

    return (name for name in target.precisions if lowest_opset(target.recipes.get(name)) == OPSETS[0])


def _export(spec: ExportSpec) -> "onnx.ModelProto":
    import torch

    from cloformer_deploy.backends.interface import output_names, with_interface
    from cloformer_deploy.backends.onnx.options import EXPORTED_OPSET

    dtype = torch.uint8 if spec.input_kind == "image" else torch.float32
    program = torch.onnx.export(
        with_interface(spec),
        (torch.zeros(spec.shape, dtype=dtype),),
        dynamo=True,
        opset_version=EXPORTED_OPSET,
        input_names=[INPUT_NAME],
        output_names=output_names(spec),
        dynamic_shapes=({0: torch.export.Dim("batch")},) if spec.batch is None else None,
        verbose=False,
    )
    if program is None:
        raise ToolError("torch.onnx.export returned nothing", "report this with the versions from `doctor`")
    model: onnx.ModelProto = program.model_proto
    model.producer_name, model.producer_version = "cloformer-deploy", __version__
    # The exporter adds to every node the line of our source that it comes from; the file does not need it.
    for node in model.graph.node:
        node.ClearField("metadata_props")
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        value.ClearField("metadata_props")
    return model


def _simplified(model: "onnx.ModelProto", spec: ExportSpec, folder: Path) -> "onnx.ModelProto":
    """Return what onnxsim made in a process of its own (it has crashed on models), verified."""
    import onnx

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        before, after = Path(scratch, "before.onnx"), Path(scratch, "after.onnx")
        onnx.save(model, before)
        try:
            with own_process("cloformer_deploy.backends.onnx.simplify", str(before), str(after)) as process:
                code = process.wait(SIMPLIFIER_TIMEOUT_S)
            if code != 0:
                raise ToolError(f"exit code {code}", KEPT)
            simplified = onnx.load(after)
            onnx.checker.check_model(simplified, full_check=True)
            change = _largest_change(before, after, spec)
        except (subprocess.SubprocessError, OSError, onnx.checker.ValidationError, ToolError) as error:
            raise ToolError(f"onnxsim failed ({error})", KEPT) from error
    if not change <= SIMPLIFIER_TOLERANCE:
        raise ToolError(f"onnxsim changed the outputs by {change:.1e}", KEPT)
    simplified.producer_name, simplified.producer_version = model.producer_name, model.producer_version
    return simplified


def _largest_change(before: Path, after: Path, spec: ExportSpec) -> float:
    import numpy as np

    from cloformer_deploy.data import probe_images

    pixels = probe_images(spec.shape[0], spec.preprocessing)
    images = pixels if spec.input_kind == "image" else spec.preprocessing.normalize(pixels)
    old, new = (OnnxRuntime().open(path).run({INPUT_NAME: images}) for path in (before, after))
    return max(float(np.abs(old[output.name] - new[output.name]).max()) for output in spec.outputs)


def _to_float16(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy that computes in float16 except in the normalizations; the interface stays float32 or uint8."""
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [*DEFAULT_OP_BLOCK_LIST, "InstanceNormalization"]
    converted = OnnxModel(convert_float_to_float16(copy, keep_io_types=True, op_block_list=kept))
    converted.topological_sort()  # the converter appends its casts at the end, which the checker refuses
    made: onnx.ModelProto = converted.model
    return made
