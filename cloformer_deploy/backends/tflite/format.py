"""TFLite by litert-torch: NHWC in, built-in operators only. fp16 keeps weights in float16, arithmetic in float32."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, METADATA_PREFIX, OUTPUT_NAME, Description, Graph, TensorInfo
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.errors import BundleError, ToolError


class TFLiteFormat:
    """See `Format`."""

    name = "tflite"
    suffix = ".tflite"
    extra = "tflite"
    packages: tuple[str, ...] = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer")
    targets: tuple[str, ...] = ("cpu", "ethos-u")
    dynamic_batch = False

    def convert(self, graph: Graph, outputs: Mapping[str, Path], note: Callable[[str], None]) -> Iterator[str]:  # noqa: ARG002
        """See `Format.convert`."""
        from cloformer_deploy.backends.tflite.quantize import quantized

        converted = _convert(graph)
        clipped: Mapping[str, float] = {}
        if graph.quantized is not None:
            converted, clipped = quantized(converted, graph, graph.quantized)
        for precision, path in outputs.items():
            path.write_bytes(_finished(converted, metadata.prefixed(graph, precision, clipped)))
            if precision == "fp16":
                path.write_bytes(_float16_weights(path))
            custom = [name for name in self.describe(path).operators if name.startswith("CUSTOM")]
            if custom:
                raise ToolError(
                    f"litert-torch used operators outside the built-ins: {', '.join(custom)}", "report this"
                )
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Format.describe`."""
        from cloformer_deploy.backends.quantized_tensors import clipped_shares
        from cloformer_deploy.backends.tflite.describe import integers, operator_name, summarize

        model = load_model(path)
        graph = model.subgraphs[0]
        stored = metadata.parsed(_metadata(model))
        try:
            names = [operator_name(model.operatorCodes[op.opcodeIndex]) for op in graph.operators]
            summary = summarize(model, names)
            quantized_tensors = integers(model, clipped_shares(stored))
        except (LookupError, TypeError, ValueError) as error:  # indices and shapes that lead nowhere
            raise BundleError(f"{path} is damaged: {error}", "export it again") from error
        return Description(
            format=self.name,
            precision=stored.get("precision"),
            inputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.inputs),
            outputs=tuple(_tensor_info(graph.tensors[index]) for index in graph.outputs),
            operators=dict(Counter(names).most_common()),
            graph=summary,
            bytes=path.stat().st_size,
            metadata=stored,
            quantized=quantized_tensors,
        )


def _convert(graph: Graph) -> bytes:
    import litert_torch
    import torch

    from cloformer_deploy.backends.interface import with_interface

    batch, channels, height, width = graph.shape
    dtype = torch.uint8 if graph.input_kind == "image" else torch.float32
    example = torch.zeros((batch, height, width, channels), dtype=dtype)
    channels_last = litert_torch.to_channel_last_io(with_interface(graph), args=[0]).eval()
    return bytes(litert_torch.convert(channels_last, (example,)).model_content())


def _finished(content: bytes, stored: Mapping[str, str]) -> bytes:
    """The file with our tensor names and metadata in place of the converter's."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for indices, maps, name in (
        (graph.inputs, signature.inputs, INPUT_NAME),
        (graph.outputs, signature.outputs, OUTPUT_NAME),
    ):
        graph.tensors[indices[0]].name = name.encode()
        maps[0].name = name
    model.description = "cloformer-deploy"
    model.metadata = model.metadata or []
    for key, value in stored.items():
        buffer = schema.BufferT()
        buffer.data = list(value.encode())
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


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


def _metadata(model: Any) -> dict[str, str]:
    """Our own entries; the converter's (a runtime version, markers) are binary and of no use to a reader."""
    found = {}
    for entry in model.metadata or []:
        name = entry.name.decode(errors="replace") if isinstance(entry.name, bytes) else str(entry.name)
        if name.startswith(METADATA_PREFIX) and 0 <= entry.buffer < len(model.buffers):
            data = model.buffers[entry.buffer].data
            found[name] = bytes(data if data is not None else b"").decode(errors="replace")
    return found


def _tensor_info(tensor: Any) -> TensorInfo:
    from cloformer_deploy.backends.tflite.describe import tensor_type

    shape = tuple(int(side) for side in tensor.shape) if tensor.shape is not None else ()
    return TensorInfo(tensor.name.decode(errors="replace"), shape, tensor_type(tensor))
