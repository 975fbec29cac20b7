"""ONNX: torch.export, opset 20 (native Gelu; 21's GroupNormalization has no CPU kernel), onnxsim under guard."""

import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy import __version__
from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, OUTPUT_NAME, Description, Graph, TensorInfo
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.errors import ToolError
from cloformer_deploy.system.subprocesses import python_command

if TYPE_CHECKING:
    import onnx

OPSET = 20
SIMPLIFIER_TIMEOUT_S = 300
SIMPLIFIER_TOLERANCE = 1e-4
"""Largest change of any logit that simplification may cause (float32 rounding is about 1e-6)."""
KEPT = "the unsimplified graph was kept"


class OnnxFormat:
    """See `Format`."""

    name = "onnx"
    suffix = ".onnx"
    extra = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime", "onnxsim", "onnxscript")
    targets: tuple[str, ...] = ("cpu", "hexagon")
    dynamic_batch = True

    def convert(self, graph: Graph, outputs: Mapping[str, Path], note: Callable[[str], None]) -> Iterator[str]:
        """See `Format.convert`."""
        import onnx

        from cloformer_deploy.backends.onnx.quantize import quantized

        exported = _export(graph)
        try:
            model = _simplified(exported, graph, folder=next(iter(outputs.values())).parent)
        except ToolError as error:
            note(f"{error.message}; {error.hint}")
            model = exported
        for precision, path in outputs.items():
            made = _to_float16(model) if precision == "fp16" else model
            clipped: Mapping[str, float] = {}
            if graph.quantized is not None:
                made, clipped = quantized(model, graph, graph.quantized)
            made.metadata_props.clear()
            onnx.helper.set_model_props(made, metadata.prefixed(graph, precision, clipped))
            onnx.checker.check_model(made, full_check=True)
            onnx.save(made, path)
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Format.describe`."""
        from cloformer_deploy.backends.onnx.describe import integers, summarize
        from cloformer_deploy.backends.quantized_tensors import clipped_shares

        model = load_model(path)
        graph = model.graph
        stored = metadata.parsed({prop.key: prop.value for prop in model.metadata_props})
        weights = {tensor.name for tensor in graph.initializer}
        return Description(
            format=self.name,
            precision=stored.get("precision"),
            inputs=tuple(_tensor_info(value) for value in graph.input if value.name not in weights),
            outputs=tuple(_tensor_info(value) for value in graph.output),
            operators=dict(Counter(node.op_type for node in graph.node).most_common()),
            graph=summarize(model),
            bytes=path.stat().st_size,
            metadata=stored,
            quantized=integers(model, clipped_shares(stored)),
        )


def _export(graph: Graph) -> "onnx.ModelProto":
    import torch

    from cloformer_deploy.backends.interface import with_interface

    dtype = torch.uint8 if graph.input_kind == "image" else torch.float32
    program = torch.onnx.export(
        with_interface(graph),
        (torch.zeros(graph.shape, dtype=dtype),),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim("batch")},) if graph.batch is None else None,
        verbose=False,
    )
    if program is None:
        raise ToolError("torch.onnx.export returned nothing", "report this with the versions from `doctor`")
    model: onnx.ModelProto = program.model_proto
    model.producer_name, model.producer_version = "cloformer-deploy", __version__
    # The exporter notes in every node where in our source it comes from: no business of the file's.
    for node in model.graph.node:
        node.ClearField("metadata_props")
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        value.ClearField("metadata_props")
    return model


def _simplified(model: "onnx.ModelProto", graph: Graph, folder: Path) -> "onnx.ModelProto":
    """Run onnxsim in a process of its own (it has crashed on models), and verify what it made."""
    import onnx

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        before, after = Path(scratch, "before.onnx"), Path(scratch, "after.onnx")
        onnx.save(model, before)
        command = [*python_command("cloformer_deploy.backends.onnx.simplify"), str(before), str(after)]
        try:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
                try:
                    code = process.wait(SIMPLIFIER_TIMEOUT_S)
                finally:
                    process.kill()
            if code != 0:
                raise ToolError(f"exit code {code}", KEPT)
            simplified = onnx.load(after)
            onnx.checker.check_model(simplified, full_check=True)
            change = _largest_change(before, after, graph)
        except (subprocess.SubprocessError, OSError, onnx.checker.ValidationError, ToolError) as error:
            raise ToolError(f"onnxsim failed ({error})", KEPT) from error
    if not change <= SIMPLIFIER_TOLERANCE:
        raise ToolError(f"onnxsim changed the logits by {change:.1e}", KEPT)
    simplified.producer_name, simplified.producer_version = model.producer_name, model.producer_version
    return simplified


def _largest_change(before: Path, after: Path, graph: Graph) -> float:
    import numpy as np

    from cloformer_deploy.backends.registry import RUNTIMES
    from cloformer_deploy.data import probe_images

    pixels = probe_images(graph.shape[0], graph.preprocessing)
    images = pixels if graph.input_kind == "image" else graph.preprocessing.normalize(pixels)
    old, new = (RUNTIMES["onnxruntime"].open(path).run(images) for path in (before, after))
    return float(np.abs(old - new).max())


def _to_float16(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Weights and arithmetic in float16, but for the normalizations' sums; the interface stays float32 (or uint8)."""
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


def _tensor_info(value: Any) -> TensorInfo:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:  # a sequence, a map, or nothing at all
        dtype = value.type.WhichOneof("value") or "unknown"
    return TensorInfo(value.name, shape, dtype)
