"""Times model files on whatever machine this one file is copied to: the standard library, numpy and a runtime.

    python runner.py survey onnx tflite     # what is here, as one line of JSON, and what runs these formats
    python runner.py measure job.json       # times files; lines of JSON, the last of them {"event": "end", ...}
    python runner.py worker                 # one file's process, which `measure` starts and commands

Written for Python 3.8 and later, since boards have what they have, and imported by nothing but its tests.

Each file has a process of its own, so that its start and its memory are its own. They run in turn: in every round each
file, in random order, has one run that is not counted, for what the one before left in the caches is not its doing, and
then a burst that is. Whoever reads the job's answer holds this process's standard input: when that ends, so does this.
"""

# ruff: noqa: T201, UP006, UP035, UP045 - its answer is what it prints; Python 3.8 has no `list[str] | None`
import ctypes
import hashlib
import json
import math
import os
import platform
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

BURST, BURST_MS = 5, 100.0
"""Counted runs of a file in a round, at least, and milliseconds that they are to take: quick files run more often."""
REST_S = 0.03
"""Before a burst: threads of the runtime before go on spinning for a while, on a core that this one needs."""
EMULATED_RUNS = 1
"""Where the processor is emulated times mean nothing, and a run takes seconds."""
_PR_SET_PDEATHSIG = 1
RUNTIMES = {
    "onnx": ("onnxruntime",),
    "tflite": ("ai_edge_litert", "tflite_runtime"),
    "coreml": ("coremltools",),
}
"""Modules that run a format, the first that can be imported."""


# What this machine is


def survey(formats: List[str]) -> Dict[str, Any]:
    """What is here: system, processor, what runs some formats, room for files."""
    found: Dict[str, Any] = {"python": platform.python_version(), "machine": _machine(), "emulated": emulated()}
    found["runtimes"] = {}
    for format_name in formats:
        module, problem = _runtime(format_name)
        found["runtimes"][format_name] = {"module": module, "version": module and _version(module), "problem": problem}
    try:
        import numpy

        found["numpy"] = numpy.__version__
    except Exception as error:
        found["numpy"], found["numpy_problem"] = None, str(error)
    found["free_bytes"] = shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free  # noqa: S108
    return found


def emulated() -> bool:
    """Whether this is a program for another processor than the kernel's, as under QEMU's user mode."""
    machine = platform.machine()
    kernel = _read("/proc/sys/kernel/arch")  # of recent kernels
    if kernel is not None:
        return kernel != machine and {kernel, machine} not in ({"aarch64", "armv8l"}, {"x86_64", "i686"})
    processor = _read("/sys/devices/system/cpu/modalias") or ""
    return processor.startswith("cpu:type:x86") and machine not in ("x86_64", "i686")


def _machine() -> str:
    board = _read("/proc/device-tree/model")
    if board is None and shutil.which("getprop"):
        board = _output(["getprop", "ro.product.model"])
    if board is None and sys.platform == "darwin":
        board = _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    if board is None:
        fields = dict(line.split(":", 1) for line in (_read("/proc/cpuinfo") or "").splitlines() if ":" in line)
        board = {key.strip(): value.strip() for key, value in fields.items()}.get("model name")
    system = f"{platform.system()} {platform.machine()}"
    return "{}, {}".format(board.strip("\0 "), system) if board else system


def _output(command: List[str]) -> Optional[str]:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=5, check=True).stdout.decode().strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _runtime(format_name: str) -> Tuple[Optional[str], Optional[str]]:
    """The module that runs a format, or why there is none."""
    problem = None
    for module in RUNTIMES[format_name]:
        try:
            __import__(module)
            return module, None
        except ModuleNotFoundError as error:
            problem = problem or str(error)
        except Exception as error:  # one that is there and broken says more than one that is not
            problem = f"{module} cannot be imported: {error}"
    return None, problem


def _version(module: str) -> Optional[str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return None


def conditions(cores: List[int]) -> Dict[str, Any]:
    """Governor and frequency of cores, and every thermal zone; what the system does not tell is None."""
    cpufreq = [f"/sys/devices/system/cpu/cpu{core}/cpufreq/" for core in cores]
    governors = sorted({name for name in (_read(folder + "scaling_governor") for folder in cpufreq) if name})
    khz = [float(value) for value in (_read(folder + "scaling_cur_freq") for folder in cpufreq) if value]
    if not khz:
        lines = (_read("/proc/cpuinfo") or "").splitlines()
        mhz = [line.split(":", 1)[1] for line in lines if line.startswith("cpu MHz")]
        khz = [1000 * float(mhz[core]) for core in cores if core < len(mhz)]
    temperatures = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        value = _read(f"{zone}/temp")
        if value is not None and value.lstrip("-").isdigit():
            temperatures[(_read(f"{zone}/type") or "zone") + zone.name[len("thermal_zone") :]] = int(value) / 1000
    return {
        "governor": ", ".join(governors) or None,
        "frequency_mhz": round(sum(khz) / len(khz) / 1000, 1) if khz else None,
        "temperatures_c": temperatures,
    }


def _read(path: str) -> Optional[str]:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _usable_cores() -> List[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


# One file, in a process of its own


def _open_onnx(path: str, threads: int, _unit: Optional[str]) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def _open_tflite(path: str, threads: int, _unit: Optional[str]) -> Callable[[Any], Any]:
    import importlib

    module = importlib.import_module(f"{_runtime('tflite')[0]}.interpreter")
    interpreter = module.Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image: Any) -> Any:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return interpreter.get_tensor(sink)

    return run


def _open_coreml(path: str, _threads: int, unit: Optional[str]) -> Callable[[Any], Any]:
    import coremltools
    from PIL import Image

    model = coremltools.models.MLModel(path, compute_units=coremltools.ComputeUnit[unit or "ALL"])
    spec = model.get_spec().description
    name = spec.input[0].name
    imaged = spec.input[0].type.WhichOneof("Type") == "imageType"

    def run(image: Any) -> Any:
        value = Image.fromarray(image[0].transpose(1, 2, 0)) if imaged else image
        return model.predict({name: value})["logits"]

    return run


OPENERS = {"onnx": _open_onnx, "tflite": _open_tflite, "coreml": _open_coreml}


class _Worker:
    """Answers one command after the other: its methods' names, each with keyword arguments."""

    def open(
        self, path: str, kind: str, image: str, threads: int, unit: Optional[str], sha256: Optional[str]
    ) -> Dict[str, Any]:
        import numpy

        if sha256 is not None and _sha256(path) != sha256:
            raise ValueError("it did not arrive as it was sent")
        module = _runtime(kind)[0]  # imported before the clock starts
        self.image = numpy.load(image, allow_pickle=False)
        start = time.perf_counter()
        self.run = OPENERS[kind](path, threads, unit)
        opened = time.perf_counter()
        logits = self.run(self.image)
        first = time.perf_counter()
        return {
            "init_ms": 1e3 * (opened - start),
            "first_ms": 1e3 * (first - opened),
            "logits": [float(value) for value in numpy.asarray(logits, numpy.float32).ravel()],
            "runtime": module,
            "version": module and _version(module),
        }

    def warm(self, runs: int, seconds: float) -> float:
        done, begun = 0, time.perf_counter()
        while done < runs or time.perf_counter() - begun < seconds:
            self.run(self.image)
            done += 1
        return 1e3 * (time.perf_counter() - begun) / max(done, 1)

    def burst(self, runs: int) -> List[float]:
        time.sleep(REST_S)
        self.run(self.image)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.run(self.image)
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def peak_rss_bytes(self) -> int:
        # ru_maxrss of a process starts with that of the one it was forked from; VmHWM is of its own program.
        for line in (_read("/proc/self/status") or "").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def work() -> None:
    """The loop of a worker: a line of JSON in, a line out."""
    if sys.platform == "linux":  # one that hangs in a runtime would not see its input end
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # runtimes print
    worker = _Worker()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"value": getattr(worker, name)(**arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


# All files, in turn


class _FailedError(Exception):
    pass


class _File:
    """The process of one file, seen from the one that commands it."""

    def __init__(self, entry: Dict[str, Any], threads: int, deadline: float) -> None:
        self.name, self.deadline = entry["name"], deadline
        self.opening = {key: entry[key] for key in ("path", "kind", "image", "sha256", "unit")}
        self.opening["threads"] = threads
        self.found: Dict[str, Any] = {}
        self.burst_runs = BURST
        self.rounds: List[List[float]] = []
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        command = [sys.executable, __file__, "worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def ask(self, name: str, **arguments: Any) -> Any:
        """The answer to a command; `_FailedError` with the reason if there is none in time."""
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None  # noqa: S101 - it is a pipe
        assert sink is not None  # noqa: S101
        try:
            sink.write(json.dumps([name, arguments]).encode() + b"\n")
            sink.flush()
        except OSError:
            raise _FailedError(self._death()) from None
        if not select.select([source], [], [], max(0.0, self.deadline - time.monotonic()))[0]:
            raise _FailedError("no answer in time")
        line = source.readline()
        if not line:
            raise _FailedError(self._death())
        answer = json.loads(line)
        if "error" in answer:
            raise _FailedError(answer["error"])
        return answer["value"]

    def _death(self) -> str:
        status = self.process.wait()
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()[-1:]
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return ": ".join([f"its process ended with {how}", *said])

    def open(self) -> None:
        """Open the file and run it once."""
        self.found = self.ask("open", **self.opening)

    def warm(self, job: Dict[str, Any]) -> None:
        """Warm it up, and find how many runs a round is to have."""
        took_ms = self.ask("warm", runs=job["warmup_runs"], seconds=job["warmup_s"])
        self.burst_runs = min(job["runs"], max(BURST, math.ceil(BURST_MS / took_ms)))

    def burst(self) -> None:
        """One round's runs."""
        self.rounds.append(self.ask("burst", runs=self.burst_runs))

    def measured(self) -> Dict[str, Any]:
        """All that is known."""
        peak = self.ask("peak_rss_bytes")
        return {"event": "measured", "name": self.name, "rounds_ms": self.rounds, "peak_rss_bytes": peak, **self.found}

    def share(self, job: Dict[str, Any]) -> float:
        """How much is done of the runs and seconds that it should reach both."""
        times = [value for burst in self.rounds for value in burst]
        done: List[float] = [1.0, len(times) / job["runs"]]
        if job["seconds"]:
            done.append(sum(times) / 1e3 / job["seconds"])
        return min(done)

    def close(self) -> None:
        """End its process."""
        self.process.kill()
        self.process.wait()
        self.log.close()


class _Files:
    """All files of a job; one that fails is told of and left out, and the others go on."""

    def __init__(self, say: Callable[[Dict[str, Any]], None]) -> None:
        self.running: List[_File] = []
        self.say = say

    def each(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Do something with each, in random order."""
        for file in random.sample(self.running, len(self.running)):
            try:
                step(file, *arguments)
            except _FailedError as error:
                self.say({"event": "failed", "name": file.name, "reason": str(error)})
                file.close()
                self.running.remove(file)


def measure(job: Dict[str, Any], say: Callable[[Dict[str, Any]], None]) -> None:
    """Time the files of a job.

    A job: `files`, each with `name`, `path`, `kind` (its format), `image` (a .npy file of what it is given), `sha256`
    or None, and `unit`, Core ML's compute unit or None; `threads`; `cores` to keep to, or None; `warmup_runs` and
    `warmup_s`, `runs` and `seconds`, both of which have to be reached; `timeout_s` of all.
    """
    cores = _usable_cores()
    if job["cores"] is not None:
        if not hasattr(os, "sched_setaffinity") or not set(job["cores"]) <= set(cores):
            say({"event": "refused", "reason": f"it cannot keep to cores {job['cores']}; there are {cores}"})
            return
        os.sched_setaffinity(0, job["cores"])
        cores = job["cores"]
    deadline = time.monotonic() + job["timeout_s"]
    if emulated():
        job = {**job, "warmup_runs": 1, "warmup_s": 0.0, "runs": EMULATED_RUNS, "seconds": 0.0}
    say({"event": "begin", "cores": cores, "conditions": conditions(cores)})
    files = _Files(say)
    try:
        for entry in job["files"]:
            files.running.append(_File(entry, job["threads"], deadline))
        files.each(_File.open)
        files.each(_File.warm, job)
        share = 0.0
        while share < 1.0:
            files.each(_File.burst)
            share = min([file.share(job) for file in files.running] or [1.0])
            say({"event": "progress", "share": share})
        after = conditions(cores)
        files.each(lambda file: say(file.measured()))
        say({"event": "end", "conditions": after})
    finally:
        for file in files.running:
            file.close()


def _end_with_the_reader() -> None:
    sys.stdin.read()
    os._exit(1)  # the workers follow


def main(arguments: List[str]) -> None:
    """See the top."""

    def say(event: Dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # which ONNX Runtime has on, and writes files for, at its mere import
    if arguments[0] == "survey":
        say(survey(arguments[1:]))
    elif arguments[0] == "worker":
        work()
    else:
        job = json.loads(Path(arguments[1]).read_text())
        threading.Thread(target=_end_with_the_reader, daemon=True).start()
        measure(job, say)


if __name__ == "__main__":
    main(sys.argv[1:])
