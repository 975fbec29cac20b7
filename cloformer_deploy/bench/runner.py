"""Measures the latency of model files on the machine that this file is copied to. Needs numpy and a runtime only.

    python runner.py measure job.json      # measure files; lines of JSON, the last one {"event": "end", ...}
    python runner.py worker                # process of one file, started and controlled by `measure`

Stand-alone but for `machine.py` beside it, and written for Python 3.8 and later, because boards come with old versions.
It knows no file format: a job names for each file an opener, another Python file (see `backends.base.Opener`).

Each file has a process of its own, so that its start and its memory are not mixed with another file's. Measurements are
interleaved: in every round each file, in random order, runs once uncounted, because the file before it has displaced
its data from the caches, and then a burst of counted runs. Whoever reads the answer keeps this process's standard input
open: the process ends when its input does.
"""

# ruff: noqa: T201, UP006, UP035, UP045 - the answer is printed; Python 3.8 has no `list[str] | None`
import base64
import ctypes
import hashlib
import importlib.util
import json
import math
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional

BURST, BURST_MS = 5, 100.0
"""Least number of counted runs of a file in a round, and least time that they take together, milliseconds."""
REST_S = 0.03
"""Pause before a burst: threads of the runtime before it spin for a while, on cores that this one needs."""
EMULATED_RUNS = 1
"""Counted runs on an emulated processor, where times mean nothing and a run takes seconds."""
_PR_SET_PDEATHSIG = 1
_OpenFile = Callable[[str, int, Optional[str]], Callable[[Dict[str, Any]], Dict[str, Any]]]


def _load(path: Path) -> ModuleType:
    """Load a Python file that is on no search path."""
    spec = importlib.util.spec_from_file_location(path.stem, str(path))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


machine = _load(Path(__file__).with_name("machine.py"))


# The process of one file


class _Worker:
    """Runs one file. Each public method is a command of the controlling process."""

    def open(
        self,
        path: str,
        opener: str,
        modules: List[str],
        inputs: Dict[str, str],
        threads: int,
        unit: Optional[str],
        sha256: Optional[str],
    ) -> Dict[str, Any]:
        """Open the file and run it once."""
        import numpy

        if sha256 is not None and digest(Path(path)) != sha256:
            raise ValueError("it did not arrive as it was sent")
        module, problem = machine.importable(modules)  # before the clock starts
        if module is None:
            raise ModuleNotFoundError(problem)
        open_file: _OpenFile = _load(Path(opener)).open_file
        self.feed = {name: numpy.load(file, allow_pickle=False) for name, file in inputs.items()}
        start = time.perf_counter()
        self.run = open_file(path, threads, unit)
        opened = time.perf_counter()
        found = self.run(self.feed)
        first = time.perf_counter()
        self.computed = {name: numpy.array(values, "<f4") for name, values in found.items()}
        return {
            "init_ms": 1e3 * (opened - start),
            "first_ms": 1e3 * (first - opened),
            "module": module,
            "version": machine.version_of(module),
        }

    def warm(self, runs: int, seconds: float) -> float:
        """Run for a number of runs and seconds, and return the mean time of a run, milliseconds."""
        done, begun = 0, time.perf_counter()
        while done < runs or time.perf_counter() - begun < seconds:
            self.run(self.feed)
            done += 1
        return 1e3 * (time.perf_counter() - begun) / max(done, 1)

    def burst(self, runs: int) -> List[float]:
        """Run once uncounted, then return the times of counted runs, milliseconds."""
        time.sleep(REST_S)
        self.run(self.feed)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.run(self.feed)
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def peak_rss_bytes(self) -> int:
        """Return the peak resident memory of this process."""
        # ru_maxrss of a process starts with that of the process it was forked from; VmHWM is of its own program.
        for line in (machine.read("/proc/self/status") or "").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

    def outputs(self) -> Dict[str, Any]:
        """Return the outputs of the first run by name: shape, and values as base64 of little-endian float32."""
        return {
            name: {"shape": list(values.shape), "float32": base64.b64encode(values.tobytes()).decode()}
            for name, values in self.computed.items()
        }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or for a folder that of its `sha256sum` listing, sorted by relative path."""
    found = hashlib.sha256()
    if path.is_dir():
        files = {os.fsencode(str(file.relative_to(path))): file for file in path.rglob("*") if file.is_file()}
        for name in sorted(files):
            found.update(b"%s  %s\n" % (digest(files[name]).encode(), name))
        return found.hexdigest()
    with path.open("rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def work() -> None:
    """Answer commands: a line of JSON with a method of `_Worker` and its arguments in, a line of JSON out."""
    if sys.platform == "linux":  # a worker that hangs in a runtime would not notice the end of its input
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


# All files, interleaved


class _FailedError(Exception):
    pass


class _File:
    """Controls the process of one file."""

    def __init__(self, entry: Dict[str, Any], threads: int, deadline: float) -> None:
        self.name, self.deadline = entry["name"], deadline
        self.opening = {key: value for key, value in entry.items() if key != "name"}
        self.opening["threads"] = threads
        self.opened: Dict[str, Any] = {}
        self.burst_runs = BURST
        self.rounds: List[List[float]] = []
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        isolated = ["-I"] if sys.flags.isolated else []  # as this process is
        command = [sys.executable, *isolated, __file__, "worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def ask(self, name: str, **arguments: Any) -> Any:
        """Send a command and return its answer; `_FailedError` with the reason if there is none in time."""
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
        last = self.log.read().decode(errors="replace").strip().splitlines()[-1:]
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return ": ".join([f"its process ended with {how}", *last])

    def open(self) -> None:
        """Open the file and run it once."""
        self.opened = self.ask("open", **self.opening)

    def warm(self, job: Dict[str, Any]) -> None:
        """Warm the file up, and set the number of runs of its bursts."""
        took_ms = self.ask("warm", runs=job["warmup_runs"], seconds=job["warmup_s"])
        self.burst_runs = min(job["runs"], max(BURST, math.ceil(BURST_MS / took_ms)))

    def burst(self) -> None:
        """Run one round."""
        self.rounds.append(self.ask("burst", runs=self.burst_runs))

    def measured(self) -> Dict[str, Any]:
        """Return the event with everything that was measured."""
        peak = self.ask("peak_rss_bytes")  # before the outputs, whose encoding takes memory
        found = {"rounds_ms": self.rounds, "peak_rss_bytes": peak, "outputs": self.ask("outputs")}
        return {"event": "measured", "name": self.name, **found, **self.opened}

    def share(self, job: Dict[str, Any]) -> float:
        """Return the share of the work that is done; both the runs and the seconds have to be reached."""
        times = [value for burst in self.rounds for value in burst]
        done: List[float] = [1.0, len(times) / job["runs"]]
        if job["seconds"]:
            done.append(sum(times) / 1e3 / job["seconds"])
        return min(done)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.log.close()


class _Files:
    """All files of a job. A file that fails is reported and left out; the others go on."""

    def __init__(self, emit: Callable[[Dict[str, Any]], None]) -> None:
        self.running: List[_File] = []
        self.emit = emit

    def each(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Do a step with each file, in random order."""
        for file in random.sample(self.running, len(self.running)):
            try:
                step(file, *arguments)
            except _FailedError as error:
                self.emit({"event": "failed", "name": file.name, "reason": str(error)})
                file.close()
                self.running.remove(file)


def measure(job: Dict[str, Any], emit: Callable[[Dict[str, Any]], None]) -> None:
    """Measure the files of a job.

    Args:
        job: `files`, each with a `name` that answers repeat, `path`, `opener` (a Python file that defines `open_file`),
            `modules` (Python modules that run the format, the first that can be imported is reported), `inputs` (.npy
            files by input name), `sha256` or None, and `unit` (a compute unit of the format or None); `threads`;
            `cores` to use, or None; `warmup_runs` and `warmup_s`; `runs` and `seconds`; `timeout_s` of the whole job.
        emit: takes the events, in order.
    """
    cores = machine.usable_cores()
    if job["cores"] is not None:
        if not hasattr(os, "sched_setaffinity") or not set(job["cores"]) <= set(cores):
            emit({"event": "refused", "reason": f"cores {job['cores']} cannot be used; there are {cores}"})
            return
        os.sched_setaffinity(0, job["cores"])
        cores = job["cores"]
    deadline = time.monotonic() + job["timeout_s"]
    if machine.emulated():
        job = {**job, "warmup_runs": 1, "warmup_s": 0.0, "runs": EMULATED_RUNS, "seconds": 0.0}
    emit({"event": "begin", "cores": cores, "conditions": machine.conditions(cores)})
    files = _Files(emit)
    try:
        for entry in job["files"]:
            files.running.append(_File(entry, job["threads"], deadline))
        files.each(_File.open)
        files.each(_File.warm, job)
        share = 0.0
        while share < 1.0:
            files.each(_File.burst)
            share = min([file.share(job) for file in files.running] or [1.0])
            emit({"event": "progress", "share": share})
        after = machine.conditions(cores)
        files.each(lambda file: emit(file.measured()))
        emit({"event": "end", "conditions": after})
    finally:
        for file in files.running:
            file.close()


def _end_with_the_reader() -> None:
    sys.stdin.read()
    os._exit(1)  # the workers follow


def main(arguments: List[str]) -> None:
    """Run a command; see the top of this file."""

    def emit(event: Dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime has it on, and writes files for it when it is imported
    if arguments[0] == "worker":
        work()
    else:
        job = json.loads(Path(arguments[1]).read_text())
        threading.Thread(target=_end_with_the_reader, daemon=True).start()
        measure(job, emit)


if __name__ == "__main__":
    main(sys.argv[1:])
