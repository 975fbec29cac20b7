"""Which operators of a TFLite file XNNPACK runs: `python -m cloformer_deploy.backends.tflite.placement FILE`.

LiteRT hands XNNPACK each stretch of operators it can run; what lies between runs on slow kernels and costs a change of
layout. Preparing a damaged file can crash LiteRT, hence the process.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloformer_deploy.errors import ToolError
from cloformer_deploy.system.subprocesses import end_with_parent, python_command


@dataclass(frozen=True)
class Placement:
    """How many partitions XNNPACK runs, and the operators it does not, by name."""

    partitions: int
    undelegated: Mapping[str, int]


def placement(path: Path) -> Placement:
    """Prepare a file as LiteRT does on a CPU, and look at who got what.

    Raises:
        ToolError: LiteRT cannot prepare the file.
    """
    command = [*python_command("cloformer_deploy.backends.tflite.placement"), str(path.resolve())]
    # The pipe of standard input stays open until it has ended: its end is how it learns that this process is gone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        answer = child.stdout.read() if child.stdout else b""
    if child.returncode != 0:
        raise ToolError(f"LiteRT cannot prepare {path}", "export it again")
    return Placement(**json.loads(answer))


def main(path: str) -> None:
    """Print the placement of a file as JSON."""
    end_with_parent()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    # The list has the operators of the file, and behind them the delegates that took some of their places.
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    print(json.dumps({"partitions": len(delegates), "undelegated": _undelegated(operators, delegates, outputs)}))  # noqa: T201


def _undelegated(
    operators: Sequence[Mapping[str, Any]], delegates: Sequence[Mapping[str, Any]], outputs: Sequence[int]
) -> dict[str, int]:
    """The operators that make a tensor somebody outside the delegates reads, and no delegate makes."""
    made_by_delegates = {index for delegate in delegates for index in delegate["outputs"]}
    read = {index for delegate in delegates for index in delegate["inputs"]} | set(outputs)
    found: Counter[str] = Counter()
    for operator in reversed(operators):
        if any(index in read and index not in made_by_delegates for index in operator["outputs"]):
            found[operator["op_name"]] += 1
            read.update(operator["inputs"])
    return dict(found.most_common())


if __name__ == "__main__":
    main(*sys.argv[1:])
