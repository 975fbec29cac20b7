"""Native float16: whether XNNPACK can compute a file in it, and the metadata that lets it do so.

XNNPACK computes a float file in float16 where the processor has such arithmetic (Arm from version 8.2 on) and the
file's metadata allow it, and in float32 elsewhere. Source: tflite/delegates/xnnpack/README.md of LiteRT,
"Floating-Point (IEEE FP16) Operators".
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.backends.tflite.runtime import native_log_dropped
from cloformer_deploy.backends.tflite.suppressed import APP_OUTPUTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENTRY = "reduced_precision_support"
ALLOWED = b"fp16accfp16"
"""Float16 with sums in float16; XNNPACK wants both (tflite/tools/optimize/reduced_precision_support.h)."""
SQNR_FLOOR_DB = 30.0
"""Below this a float file does not compute in float16 what it computes in float32."""
_FORCED = 0x4
"""TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 (xnnpack_delegate.h): float16 on every processor, or an error."""


def sqnr_db(path: Path, images: "NDArray[Any]") -> float | None:
    """Return how near a float file's outputs in float16 are to its outputs in float32.

    Args:
        path: the file.
        images: a batch as the file takes it, NHWC.

    Returns:
        Signal to quantization noise of all outputs together, dB: inf if they are the same or a detector's suppressed
        detections, which may be in another order; -inf if one is not finite; None if XNNPACK cannot compute the file in
        float16 here.
    """
    import numpy as np

    try:
        with native_log_dropped():
            found = _outputs(path, images, _FORCED)
    except RuntimeError:
        return None
    with native_log_dropped():
        expected = _outputs(path, images, 0)
    if not np.isfinite(found).all():
        return float("-inf")
    noise = np.square(found - expected, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise)) if noise else float("inf")


def _outputs(path: Path, images: "NDArray[Any]", flags: int) -> "NDArray[np.float32]":
    """Return all outputs but suppressed detections, flat, one after the other."""
    import numpy as np
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options

    options = Options(
        hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1, xnnpack_flags=flags)
    )
    model = CompiledModel.from_file(str(path), options=options)
    ((_, signature),) = model.get_signature_list().items()
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(images)
    model.run_by_index(0, inputs, outputs)
    found = [np.zeros(0, np.float32)]
    for name, buffer in zip(signature["outputs"], outputs, strict=True):
        if name not in APP_OUTPUTS:
            found.append(buffer.read(int(np.prod(buffer.get_tensor_details()["shape"])), np.float32))
    return np.concatenate(found)
