"""Write TFLite files with litert-torch: NHWC, built-in operators only.

An fp16 file has float16 weights, and is computed in float16 where the processor can (`half`), elsewhere in float32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, ExportSpec, Runtime, Suppression, TensorReader
from cloformer_deploy.backends.description import Description, GraphKeys, Section
from cloformer_deploy.backends.device_opener import Opener
from cloformer_deploy.backends.target import Target
from cloformer_deploy.backends.tflite import half, mediapipe
from cloformer_deploy.backends.tflite.file import packed
from cloformer_deploy.backends.tflite.runtime import LiteRT
from cloformer_deploy.backends.tflite.suppressed import APP_OUTPUTS, CELLS
from cloformer_deploy.backends.tflite.targets import TARGETS
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.networks.base import COLORS
from cloformer_deploy.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from cloformer_deploy.backends.options import Options
    from cloformer_deploy.backends.tflite.options import TFLiteOptions


class TFLiteBackend:
    """See `Backend`."""

    name = "tflite"
    suffix = ".tflite"
    extra = "tflite"
    packages: tuple[str, ...] = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer")
    modules: tuple[str, ...] = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
    conversion_s = 22
    image_colors: tuple[str, ...] = COLORS
    input_layout: Literal["NCHW", "NHWC"] = "NHWC"
    targets = TARGETS
    dynamic_batch = False
    category_map = False
    suppression: Suppression | None = Suppression(APP_OUTPUTS, best_class=False)
    runtimes: Sequence[Runtime] = (LiteRT(),)
    opener = Opener(
        Path(__file__).with_name("opener.py"),
        ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"),
        "numpy ai-edge-litert",
    )

    @property
    def graph_keys(self) -> Callable[[Path], GraphKeys]:
        """See `Backend.graph_keys`."""
        from cloformer_deploy.backends.tflite.tensors import graph_keys

        return graph_keys

    @property
    def options(self) -> type["TFLiteOptions"]:
        """See `Backend.options`."""
        from cloformer_deploy.backends.tflite.options import TFLiteOptions

        return TFLiteOptions

    def check(
        self, options: "Options", target: Target, precisions: Sequence[str], input_kind: str, batch: int | None
    ) -> None:
        """See `Backend.check`: integers at the interface need integers everywhere behind it."""
        if not _integer_io(options):
            return
        whole = [name for name, recipe in target.recipes.items() if recipe.everywhere]
        if not whole:
            targets = ", ".join(
                item.name for item in TARGETS.values() if any(r.everywhere for r in item.recipes.values())
            )
            raise RequestError(
                f"files for {target.name} compute in float too, so their interface is float",
                f"leave --integer-io out, or give --target {targets}",
            )
        for precision in precisions:
            if precision not in whole:
                raise RequestError(
                    f"{precision} files have no integers for their interface",
                    f"leave --integer-io out, or choose the precision from {', '.join(whole)}",
                )
        if input_kind == "image":
            raise RequestError(
                "the normalization of raw pixels is computed in float, so an image input cannot be an integer tensor",
                "leave --integer-io or --input image out",
            )

    def convert(self, spec: ExportSpec, paths: Mapping[str, Path], progress: Progress) -> Iterator[str]:
        """See `Backend.convert`."""
        from cloformer_deploy.backends.tflite.detections import OPERATOR
        from cloformer_deploy.backends.tflite.quantize import quantized

        converted = _convert(spec)
        clipped: Mapping[str, float] = {}
        if spec.quantized is not None:
            converted, clipped = quantized(converted, spec, spec.quantized, _integer_io(spec.options))
        app = mediapipe.metadata(spec)
        for precision, path in paths.items():
            stored: dict[str, str | bytes] = {**metadata.prefixed(spec, precision, clipped)}
            if app is not None:
                stored[mediapipe.ENTRY] = app
            path.write_bytes(_finished(converted, spec, stored))
            if precision == "fp16":
                path.write_bytes(_float16_weights(path))
                _allow_float16(path, spec, progress)
            if app is not None:
                path.write_bytes(mediapipe.with_labels(path.read_bytes(), spec.labels))
            custom = {name for name in self.describe(path).operators if name.startswith("CUSTOM")}
            custom -= {f"CUSTOM:{OPERATOR}"}
            if custom:
                raise ToolError(
                    f"litert-torch used operators outside the built-ins: {', '.join(sorted(custom))}", "report this"
                )
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Backend.describe`."""
        from cloformer_deploy.backends.tflite.describe import describe

        return describe(path)

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """See `Backend.inspect`: which operators XNNPACK runs."""
        from cloformer_deploy.backends.tflite.placement import placement

        return (placement(path).section(),)

    def open_tensors(self, path: Path) -> TensorReader:
        """See `Backend.open_tensors`."""
        from cloformer_deploy.backends.tflite.tensors import open_tensors

        return open_tensors(path)

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """See `Backend.weight_differences`: the converter renames and transposes weights; they cannot be compared."""
        return []


def _integer_io(options: "Options") -> bool:
    from cloformer_deploy.backends.tflite.options import TFLiteOptions

    return isinstance(options, TFLiteOptions) and options.integer_io


def _convert(spec: ExportSpec) -> bytes:
    import litert_torch
    import torch

    from cloformer_deploy.backends.interface import with_interface
    from cloformer_deploy.backends.tflite.detections import ForPostProcessing

    batch, channels, height, width = spec.shape
    dtype = torch.uint8 if spec.input_kind == "image" else torch.float32
    example = torch.zeros((batch, height, width, channels), dtype=dtype)
    maps = [index for index, output in enumerate(spec.outputs) if len(output.axes) == 4]
    module = ForPostProcessing(with_interface(spec)) if spec.has_detections else with_interface(spec)
    channels_last = litert_torch.to_channel_last_io(module, args=[0], outputs=maps).eval()
    return bytes(litert_torch.convert(channels_last, (example,)).model_content())


def _finished(content: bytes, spec: ExportSpec, stored: Mapping[str, str | bytes]) -> bytes:
    """Return the file with our tensor names and metadata in place of the converter's, and a detector's suppression."""
    from ai_edge_litert.tools import flatbuffer_utils

    from cloformer_deploy.backends.tflite.detections import add_detections

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    _name(graph, signature.inputs, graph.inputs, [INPUT_NAME])
    names = [output.name for output in spec.outputs]
    if spec.has_detections:
        names = [*CELLS]
    _name(graph, signature.outputs, graph.outputs, names)
    if spec.has_detections:
        add_detections(model)
    model.description = "cloformer-deploy"
    _store(model, stored)
    return packed(model)


def _store(model: Any, entries: Mapping[str, str | bytes]) -> None:
    """Add entries to the metadata of a model."""
    from ai_edge_litert import schema_py_generated as schema

    model.metadata = model.metadata or []
    for key, value in entries.items():
        buffer = schema.BufferT()
        buffer.data = list(value.encode() if isinstance(value, str) else value)
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)


def _allow_float16(path: Path, spec: ExportSpec, progress: Progress) -> None:
    """Let processors compute an fp16 file in float16, if XNNPACK can and gives what it gives in float32."""
    from ai_edge_litert.tools import flatbuffer_utils

    found = half.sqnr_db(path, _probe(spec))
    if found is None or found < half.SQNR_FLOOR_DB:
        why = "XNNPACK cannot compute it in float16" if found is None else f"in float16 it reaches {found:.1f} dB"
        progress.warn(f"{path.name}: {why}, so every processor computes it in float32")
        return
    model = flatbuffer_utils.read_model_from_bytearray(path.read_bytes())
    _store(model, {half.ENTRY: half.ALLOWED})
    path.write_bytes(packed(model))


def _probe(spec: ExportSpec) -> "NDArray[Any]":
    """Return rendered images as a file takes them."""
    import numpy as np

    from cloformer_deploy.data import probe_images

    images: NDArray[Any] = probe_images(spec.shape[0], spec.preprocessing)
    if spec.input_kind == "tensor":
        images = spec.preprocessing.normalize(images)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _name(graph: Any, maps: Sequence[Any], indices: Sequence[int], names: Sequence[str]) -> None:
    """Name the tensors of an interface in the order in which the model takes or returns them.

    The signature lists them in that order, whatever the order of the graph's own lists.
    """
    if len(maps) != len(names) or len(indices) != len(names):
        raise ToolError(f"litert-torch made {len(maps)} inputs or outputs instead of {', '.join(names)}", "report this")
    for entry, name in zip(maps, names, strict=True):
        graph.tensors[entry.tensorIndex].name = name.encode()
        entry.name = name


def _float16_weights(path: Path) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    tool = quantizer.Quantizer(str(path))
    tool.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT
        ),
        algorithm_key="float_casting",
    )
    return bytes(tool.quantize().quantized_model)
