"""A phone hosted in Qualcomm's AI Hub, reached by the package qai-hub with the user's own token.

Files leave this machine: they are uploaded to the user's account. ONNX files are compiled for the device first; TFLite
files run as they are. Files of other formats are not executed.
"""

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from cloformer_deploy.bench.devices.base import Answer, Kind, Load, Measured, Options, Request
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.errors import MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import require

FORM = "qai-hub:DEVICE"
EXTRA = "qai-hub"
FORMATS = ("onnx", "tflite")
COMPILE = {"onnx": "--target_runtime onnx"}
"""Options of the compile job of formats that have one: ONNX Runtime with Qualcomm's execution provider."""
_US_PER_MS = 1000


def check() -> None:
    """See `Kind.check`."""
    require("qai_hub", extra=EXTRA)


class QaiHub:
    """See `Device`. The service decides the number of runs."""

    def __init__(self, device: str) -> None:
        self.name = f"qai-hub:{device}"
        self._device = device

    @classmethod
    def parse(cls, detail: str, _options: Options) -> "QaiHub":
        """Make the device from its name, as `qai-hub list-devices` gives it."""
        if not detail.strip():
            raise RequestError("the device qai-hub: has no name", f"give --device '{FORM}'; see qai-hub list-devices")
        return cls(detail)

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        check()
        import qai_hub

        try:
            (device, *_) = qai_hub.get_devices(name=self._device) or [None]
        except Exception as error:  # without a configuration or a network, or with an invalid token
            message = f"AI Hub cannot be used: {str(error).strip().splitlines()[0]}"
            raise MissingPartError(
                message, "run: qai-hub configure --api_token TOKEN, with a token of your account"
            ) from error
        if device is None:
            raise RequestError(f"AI Hub has no device {self._device!r}", "see: qai-hub list-devices")
        measured = []
        for number, load in enumerate(request.loads):
            measured.append(_measured(qai_hub, device, load, request.timeout_s))
            progress.advance(number + 1, len(request.loads))
        return Answer(self._device, "device", None, None, None, tuple(measured))


def _measured(hub: Any, device: Any, load: Load, timeout_s: float) -> Measured:
    artifact = load.artifact
    if artifact.format not in FORMATS:
        return Measured(load, "not_executed", f"AI Hub runs {' and '.join(FORMATS)} files only")
    try:
        load.check_alone()
    except ToolError as error:
        return Measured(load, "failed", error.message)
    try:
        model: Any = str(load.path)
        if artifact.format in COMPILE:
            compiled = hub.submit_compile_job(
                model=model, device=device, name=artifact.path, options=COMPILE[artifact.format]
            )
            compiled.wait(timeout=round(timeout_s))
            model = compiled.get_target_model()
        if model is None:
            return Measured(load, "failed", f"AI Hub could not compile it: {compiled.url}")
        job = hub.submit_inference_job(model=model, device=device, name=artifact.path, profile=True)
        status = job.wait(timeout=round(timeout_s))
        if not status.success:
            return Measured(load, "failed", f"AI Hub could not run it: {status.message}: {job.url}")
        return read_profile(load, job.download_profile(), version("qai-hub"))
    except hub.client.Error as error:
        raise ToolError(f"AI Hub failed on {artifact.path}: {error}", "see the job on its page") from error


def read_profile(load: Load, profile: Mapping[str, Any], hub_version: str) -> Measured:
    """Read a profile as `InferenceJob.download_profile` gives it: times in microseconds, memory in bytes."""
    summary = profile["execution_summary"]
    times = [
        value / _US_PER_MS for value in summary.get("all_inference_times") or [summary["estimated_inference_time"]]
    ]
    peak = summary.get("inference_memory_peak_range")
    return Measured(
        load,
        "measured",
        runtime="qai-hub",
        runtime_version=hub_version,
        figures=figures(times),
        init_ms=summary["first_load_time"] / _US_PER_MS,
        peak_rss_bytes=peak[1] if isinstance(peak, list | tuple) else None,
        placement=dict(Counter(layer["compute_unit"] for layer in profile["execution_detail"])),
    )


KIND = Kind(FORM, "a phone hosted by Qualcomm", check, QaiHub.parse)
