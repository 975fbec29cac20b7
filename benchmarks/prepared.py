"""Latency of networks with Clo attention in them: exported as written, and exported in the same way after `prepare`.

    python benchmarks/prepared.py [--output FILE]

The networks are those of `tests/own/networks.py`, at 224 x 224; the exporters `torch.onnx.export` and litert-torch.
Both files of a network are run in turn (see `latency.interleaved`) on one core with one thread. A file that cannot be
run has null for its figures, and the reason.
"""

import json
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn
from torch.utils import _pytree as pytree

from benchmarks import latency
from cloformer_deploy import prepare
from tests.own.networks import NETWORKS, network

LOWEST = 0.97
"""Least speedup: below it the rewrites would be a loss."""


class Listed(nn.Module):
    """A network whose outputs are a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        """Return all output tensors, in order."""
        return tuple(pytree.tree_leaves(self.model(x)))


def written(name: str, folder: str) -> dict[str, str]:
    """Export a network as written and prepared; return the path of each file, by runtime and form."""
    import litert_torch

    warnings.simplefilter("ignore")
    example = torch.from_numpy(latency.noise(latency.SIDE))
    made = {}
    for form in ("written", "prepared"):
        for runtime, target in (("onnxruntime", "onnx"), ("litert", "tflite")):
            model = network(name)
            if form == "prepared":
                report = prepare(model, target, example)
                if not report.changed:
                    raise RuntimeError(f"{name} was not prepared for {target}: {report.reason}")
            path = Path(folder, f"{name}-{form}.{target}")
            if target == "onnx":
                torch.onnx.export(Listed(model), (example,), path, input_names=["image"], dynamo=True, verbose=False)
            else:
                litert_torch.convert(Listed(model), (example,)).export(str(path))
            made[f"{runtime} {form}"] = str(path)
    return made


def opened(path: str) -> Callable[[], Any]:
    """Open a file with one thread, and return a call that runs it."""
    image = latency.noise(latency.SIDE)
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        return lambda: session.run(None, {"image": image})
    from ai_edge_litert.interpreter import Interpreter

    reader = Interpreter(path, num_threads=1)
    reader.allocate_tensors()
    index = reader.get_input_details()[0]["index"]

    def run() -> Any:
        reader.set_tensor(index, image)
        reader.invoke()
        return [reader.get_tensor(item["index"]) for item in reader.get_output_details()]

    return run


def measured(files: Mapping[str, str], repeats: int, rounds: int) -> dict[str, Any]:
    """Time the files that run, in turn; return median milliseconds of each repeat, or why there are none."""
    latency.keep_to(1)
    found: dict[str, Any] = {}
    for runtime in ("onnxruntime", "litert"):
        runnable = {}
        for form in ("written", "prepared"):
            try:
                outputs = opened(files[f"{runtime} {form}"])()
            except (RuntimeError, ValueError) as error:
                found[f"{runtime} {form}"] = str(error).splitlines()[0]
                continue
            if not all(np.isfinite(item).all() for item in outputs):
                raise RuntimeError(f"{files[f'{runtime} {form}']} gives no numbers")
            runnable[f"{runtime} {form}"] = lambda path=files[f"{runtime} {form}"]: opened(path)
        found |= latency.interleaved(runnable, repeats, rounds)
    return found


def result(name: str, runtime: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one network on one runtime."""
    before, after = (found[f"{runtime} {form}"] for form in ("written", "prepared"))
    ran = isinstance(before, list) and isinstance(after, list)
    ratios = [slow / fast for slow, fast in zip(before, after, strict=True)] if ran else []
    return {
        "network": name,
        "runtime": runtime,
        "written_ms": statistics.median(before) if isinstance(before, list) else None,
        "prepared_ms": statistics.median(after) if isinstance(after, list) else None,
        "speedup": statistics.median(ratios) if ratios else None,
        "speedups": ratios,
        "failed": None if ran else next(item for item in (before, after) if isinstance(item, str)),
    }


def table(content: Mapping[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = ["| network | runtime | as written, ms | prepared, ms | times as fast |", "|---|---|---|---|---|"]
    for item in content["results"]:
        cells = [
            f"{value:.2f}" if value is not None else "does not run"
            for value in (item["written_ms"], item["prepared_ms"])
        ]
        ratio = f"{item['speedup']:.2f}" if item["speedup"] is not None else "-"
        lines.append(f"| {item['network']} | {item['runtime']} | {cells[0]} | {cells[1]} | {ratio} |")
    protocol = content["protocol"]
    conditions = (
        f"{latency.circumstances(content)} {protocol['side']} x {protocol['side']} px, batch 1, one thread; medians of "
        f"{protocol['repeats']} repeats of {protocol['rounds']} rounds, interleaved (`benchmarks/prepared.py`)."
    )
    lines += ["", conditions]
    return "\n".join(lines)


def main(
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("benchmarks/results/prepared.json"),
    repeats: Annotated[int, typer.Option(help="Times that all files are opened anew.")] = 5,
    rounds: Annotated[int, typer.Option(help="Runs of each file in a repeat.")] = 30,
) -> None:
    """Measure, write JSON, and fail where `prepare` makes a network slower."""
    results = []
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            files = latency.in_a_process(written, name, folder)
            found = latency.in_a_process(measured, files, repeats, rounds)
        results += [result(name, runtime, found) for runtime in ("onnxruntime", "litert")]
        for item in results[-2:]:
            print(*(item[key] for key in ("network", "runtime", "written_ms", "prepared_ms", "speedup", "failed")))
    protocol = {"side": latency.SIDE, "threads": 1, "repeats": repeats, "rounds": rounds}
    versions = {package: version(package) for package in latency.PACKAGES}
    content = {"machine": latency.machine(), "versions": versions, "protocol": protocol, "results": results}
    output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(content))
    slow = [item for item in results if item["speedup"] is not None and item["speedup"] < LOWEST]
    if slow:
        raise SystemExit(f"slower than as written: {slow}")


if __name__ == "__main__":
    typer.run(main)
