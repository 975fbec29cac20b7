"""Fuzz a parser, guided by coverage: `python -m tests.fuzz --target TARGET --seconds N`.

Prints the figures of the run as JSON. The exit code is 1 if there are findings: their inputs and errors are in
--findings.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.targets import CORPUS, TARGETS, seeds

MEMORY_MIB = 2048
SECONDS_EACH = 10
"""Longest time that one input may take."""
LONGEST_INPUT = 16384
_TOKEN = re.compile(rb"[A-Za-z_@.][A-Za-z0-9_@./]{2,39}")


def dictionary(name: str) -> str:
    """Return the words of a corpus in libFuzzer's form; it inserts them into inputs."""
    words = {word for path in seeds(name) for word in _TOKEN.findall(path.read_bytes())}
    return "".join(f'"{word.decode()}"\n' for word in sorted(words))


def started(name: str, seconds: int, folder: Path, findings: Path) -> str:
    """Run one process until it ends, and return what libFuzzer said."""
    words = folder / "words"
    words.write_text(dictionary(name))
    (folder / "inputs").mkdir(exist_ok=True)
    options = (
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={SECONDS_EACH}",
        f"-max_len={LONGEST_INPUT}",
        f"-dict={words}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        str(folder / "inputs"),
        str(CORPUS / name),
    )
    command = [sys.executable, "-m", "tests.fuzz.driver", name, str(findings), *options]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode(errors="backslashreplace")
    if done.returncode:
        (findings / f"ended-{time.time_ns()}.txt").write_text(said[-20_000:])
    return said


def figures(said: str) -> dict[str, int]:
    """Return executions, covered branches and peak memory of a process."""
    executed = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said) or re.findall(r"^#(\d+)", said, re.M)
    covered = re.findall(r"\bcov: (\d+)", said)
    memory = re.findall(r"stat::peak_rss_mb:\s+(\d+)", said)
    return {
        name: int(found[-1]) if found else 0
        for name, found in (("executions", executed), ("coverage", covered), ("peak_rss_mb", memory))
    }


def run(name: str, seconds: int, findings: Path) -> dict[str, Any]:
    """Fuzz a target for so many seconds; after a crash, lack of memory or a time-out it is started again."""
    begun = time.monotonic()
    total = {"executions": 0, "coverage": 0, "peak_rss_mb": 0}
    with tempfile.TemporaryDirectory() as work:
        while (left := seconds - int(time.monotonic() - begun)) > 0:
            found = figures(started(name, left, Path(work), findings))
            if not found["executions"]:  # it cannot start
                break
            total["executions"] += found["executions"]
            for key in ("coverage", "peak_rss_mb"):
                total[key] = max(total[key], found[key])
    took = time.monotonic() - begun
    kept = sorted(path.name for path in findings.iterdir() if path.suffix != ".txt")
    rate = round(total["executions"] / took, 1)
    return {"target": name, "seconds": round(took), **total, "executions_per_s": rate, "findings": kept}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", required=True, choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--findings", type=Path, help="folder for findings; a new one in /tmp if left out")
    asked = parser.parse_args()
    findings = asked.findings or Path(tempfile.mkdtemp(prefix=f"fuzz-{asked.target}-"))
    findings.mkdir(parents=True, exist_ok=True)
    answer = run(asked.target, asked.seconds, findings)
    sys.stdout.write(json.dumps({**answer, "folder": str(findings)}) + "\n")
    return 1 if answer["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
