"""Measure the start-up time of `cloformer-deploy --help` beside a bare Typer application with one command.

    python benchmarks/startup.py [--rounds N] [--limit RATIO]

The two run in turn, so that a busy moment hits both. With --limit, exit code 1 if the ratio of the medians is above it.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

BARE = '''import typer

app = typer.Typer()


@app.command()
def hello() -> None:
    """Say hello."""


app()
'''


def measure(command: list[str]) -> float:
    """Wall-clock time of one run, ms."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1e3 * (time.perf_counter() - start)


def main() -> int:
    """Measure, print, and compare with the limit."""
    parser = argparse.ArgumentParser(description="Start-up time of the command line.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--limit", type=float, nargs="?", const=2.5, help="fail above this ratio (2.5 without a value)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} is less than 1")
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "bare.py")
        bare.write_text(BARE)
        commands = {
            "bare Typer --help": [sys.executable, str(bare), "--help"],
            "cloformer-deploy --help": [sys.executable, "-m", "cloformer_deploy", "--help"],
        }
        for command in commands.values():  # compiles what is not compiled, and warms the file cache
            measure(command)
        times_ms: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                times_ms[name].append(measure(command))
    medians_ms = {name: statistics.median(values) for name, values in times_ms.items()}
    for name, values in times_ms.items():
        print(f"{name:24} median {medians_ms[name]:6.1f} ms, min {min(values):6.1f} ms")
    bare_ms, own_ms = medians_ms.values()
    ratio = own_ms / bare_ms
    print(f"ratio of the medians {ratio:.2f}")
    print(
        f"n = {args.rounds} each, in turn; Python {platform.python_version()}, typer {version('typer')}, "
        f"{platform.system()} {platform.machine()}, {platform.processor() or 'processor unknown'}"
    )
    if args.limit is not None and ratio > args.limit:
        print(f"above the limit of {args.limit}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
