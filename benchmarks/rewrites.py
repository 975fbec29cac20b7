"""Measure the speedup of each rewrite: the lowered graph beside the same without one of its rewrites, on its runtime.

    python benchmarks/rewrites.py [--variant V ...]

One thread. A rewrite that others stand on goes together with them: without the affine folded, GroupNorm stays whole.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.latency import RUNTIMES, SIDE, convert, in_a_process, interleaved, keep_to, timed_model
from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.registry import target_of
from cloformer_deploy.networks import network_of
from cloformer_deploy.system.cores import usable_cores

RUNTIME = {"onnx": "onnxruntime", "tflite": "litert"}
STANDS_ON = {"normalize_in_two_steps": "fold_group_norm_affine", "separate_branches": "fold_scales"}


def without(rewrites: Sequence[str], left_out: str) -> list[str]:
    """Return the rewrites except the named one and those that need it."""
    return [name for name in rewrites if left_out not in (name, STANDS_ON.get(name))]


def export(variant: str, format_name: str, left_out: str, path: Path) -> None:
    """Write the lowered graph, less a rewrite ("" for none)."""
    model = timed_model(variant)
    for name in without(target_of(format_name, "cpu").rewrites, left_out):
        network_of(model).rewrites[name](model)
    convert(format_name, model, path)


def measure(format_name: str, paths: dict[str, Path], repeats: int, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each repeat, by the rewrite left out."""
    keep_to(1)
    image = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), np.float32)

    def opener(path: Path) -> Callable[[], Callable[[], object]]:
        def opened() -> Callable[[], object]:
            session = RUNTIMES[RUNTIME[format_name]].open(path)
            return lambda: session.run({INPUT_NAME: image})

        return opened

    return interleaved({name: opener(path) for name, path in paths.items()}, repeats, rounds)


def main(
    variants: Annotated[list[str], typer.Option("--variant")] = ["xxs", "s"],  # noqa: B006 - typer's default
    repeats: Annotated[int, typer.Option(min=1)] = 9,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
) -> None:
    """Measure, and print a table in Markdown for each runtime."""
    for format_name, runtime in RUNTIME.items():
        rewrites = target_of(format_name, "cpu").rewrites
        columns = [_measured(variant, format_name, ["", *rewrites], repeats, rounds) for variant in variants]
        print(f"| without, {runtime} | " + " | ".join(variants) + " |\n|---|" + "---|" * len(variants))
        for name in rewrites:
            ratios = ([slow / fast for slow, fast in zip(ms[name], ms[""], strict=True)] for ms in columns)
            print(f"| `{name}` | " + " | ".join(f"{statistics.median(each):.3f}" for each in ratios) + " |")
        print()


def _measured(
    variant: str, format_name: str, left_out: Sequence[str], repeats: int, rounds: int
) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name or 'all'}.{format_name}") for name in left_out}
        # Exported side by side, one a core: the processes are only waited for here.
        with ThreadPoolExecutor(usable_cores()) as pool:
            jobs = [pool.submit(in_a_process, export, variant, format_name, name, path) for name, path in paths.items()]
            for job in jobs:
                job.result()
        return in_a_process(measure, format_name, paths, repeats, rounds)


if __name__ == "__main__":
    typer.run(main)
