"""Measure how many images of the rendered task, and how many scenes, one core renders per second.

    python benchmarks/rendering.py [--rounds N] [--limit IMAGES_PER_S]

With --limit, exit code 1 if a median is below it.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

from cloformer_deploy.data.rendered import CLASSES, render, render_scene

IMAGES = 2 * len(CLASSES)


def speed(name: str, draw: Callable[[str, int], object], rounds: int) -> float:
    """Print how many are drawn a second of CPU time, and return the median of the rounds."""
    draw("test", rounds * IMAGES)  # loads what is loaded late
    speeds = []
    for number in range(rounds):
        start = time.process_time()  # of this process alone: one thread, whatever else the machine does
        for index in range(number * IMAGES, (number + 1) * IMAGES):
            draw("test", index)
        speeds.append(IMAGES / (time.process_time() - start))
    median = statistics.median(speeds)
    print(f"{name}: median {median:.0f} a second of CPU time, min {min(speeds):.0f}, max {max(speeds):.0f}")
    return median


def main() -> int:
    """Measure, print, and compare with the limit."""
    parser = argparse.ArgumentParser(description="Speed of rendering.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=float, nargs="?", const=40, help="fail below this (40 without a value)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} is less than 1")
    medians = [speed(name, draw, args.rounds) for name, draw in (("images", render), ("scenes", render_scene))]
    print(
        f"n = {args.rounds} rounds of {IMAGES}; Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {platform.processor() or 'processor unknown'}"
    )
    if args.limit is not None and min(medians) < args.limit:
        print(f"below the limit of {args.limit:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
