"""Describes the machine that this file is copied to: its system, its state, and the runtimes that it has.

    python machine.py FORMATS        # FORMATS is JSON, see `survey`; the answer is one line of JSON

Stand-alone, and written for Python 3.8 and later, because boards come with old versions. `runner.py` loads it, too.
"""

# ruff: noqa: T201, UP006, UP035, UP045 - the answer is printed; Python 3.8 has no `list[str] | None`
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple


def survey(formats: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """Describe the machine: system, processor, free space, and the runtime of each format.

    Args:
        formats: by name, with `modules` (Python modules that run the format, the preferred one first) and `system`
            (the only `platform.system()` that can run it, or None).
    """
    found = {
        "system": platform.system(),
        "machine": _machine(),
        "emulated": emulated(),
        "free_bytes": shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free,  # noqa: S108
        "runtimes": {},
    }  # type: Dict[str, Any]
    for name, wanted in formats.items():
        if wanted["system"] in (None, platform.system()):
            module, problem = importable(wanted["modules"])
            found["runtimes"][name] = {"module": module, "version": module and version_of(module), "problem": problem}
    try:
        import numpy

        found["numpy"], found["numpy_problem"] = numpy.__version__, None
    except Exception as error:
        found["numpy"], found["numpy_problem"] = None, str(error)
    return found


def emulated() -> bool:
    """Tell whether this program is for another processor than the kernel's, as under QEMU's user mode."""
    machine = platform.machine()
    kernel = read("/proc/sys/kernel/arch")  # of recent kernels
    if kernel is not None:
        return kernel != machine and {kernel, machine} not in ({"aarch64", "armv8l"}, {"x86_64", "i686"})
    processor = read("/sys/devices/system/cpu/modalias") or ""
    return processor.startswith("cpu:type:x86") and machine not in ("x86_64", "i686")


def _machine() -> str:
    board = read("/proc/device-tree/model")
    if board is None and shutil.which("getprop"):
        board = _output(["getprop", "ro.product.model"])
    if board is None and sys.platform == "darwin":
        board = _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    if board is None:
        fields = dict(line.split(":", 1) for line in (read("/proc/cpuinfo") or "").splitlines() if ":" in line)
        board = {key.strip(): value.strip() for key, value in fields.items()}.get("model name")
    system = f"{platform.system()} {platform.machine()}"
    return "{}, {}".format(board.strip("\0 "), system) if board else system


def _output(command: List[str]) -> Optional[str]:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=5, check=True).stdout.decode().strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def importable(modules: List[str]) -> Tuple[Optional[str], Optional[str]]:
    """Import the first module that can be, and return its name, or the reason why there is none."""
    problem = None
    for module in modules:
        try:
            importlib.import_module(module)
            return module, None
        except ModuleNotFoundError as error:
            problem = problem or str(error)
        except Exception as error:  # a module that is there but broken is the better reason
            problem = f"{module} cannot be imported: {error}"
    return None, problem


def version_of(module: str) -> Optional[str]:
    """Return the version of the distribution that a module is named after; None if there is none of that name."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(module.split(".")[0].replace("_", "-"))
    except PackageNotFoundError:
        return None


def conditions(cores: List[int]) -> Dict[str, Any]:
    """Return governor and frequency of cores, and every thermal zone; None where the system does not give it."""
    cpufreq = [f"/sys/devices/system/cpu/cpu{core}/cpufreq/" for core in cores]
    governors = sorted({name for name in (read(folder + "scaling_governor") for folder in cpufreq) if name})
    khz = [float(value) for value in (read(folder + "scaling_cur_freq") for folder in cpufreq) if value]
    if not khz:
        lines = (read("/proc/cpuinfo") or "").splitlines()
        mhz = [line.split(":", 1)[1] for line in lines if line.startswith("cpu MHz")]
        khz = [1000 * float(mhz[core]) for core in cores if core < len(mhz)]
    temperatures = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        value = read(f"{zone}/temp")
        if value is not None and value.lstrip("-").isdigit():
            temperatures[(read(f"{zone}/type") or "zone") + zone.name[len("thermal_zone") :]] = int(value) / 1000
    return {
        "governor": ", ".join(governors) or None,
        "frequency_mhz": round(sum(khz) / len(khz) / 1000, 1) if khz else None,
        "temperatures_c": temperatures,
    }


def read(path: str) -> Optional[str]:
    """Return the text of a file, stripped; None if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def usable_cores() -> List[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def main(formats: str) -> None:
    """Print the answer of `survey`."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime has it on, and writes files for it when it is imported
    print(json.dumps(survey(json.loads(formats))))


if __name__ == "__main__":
    main(sys.argv[1])
