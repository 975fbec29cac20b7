"""Find the operators of a TFLite file that XNNPACK runs: `python -m cloformer_deploy.backends.tflite.placement FILE`.

LiteRT gives XNNPACK each stretch of operators it can run; the others run on slow kernels and cost a change of layout.
Preparing a damaged file can crash LiteRT, so it is done in a process of its own.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from cloformer_deploy.backends.description import Section
from cloformer_deploy.errors import ToolError
from cloformer_deploy.system.files import reachable
from cloformer_deploy.system.subprocesses import end_with_parent, own_process


@dataclass(frozen=True)
class Placement:
    """The division of a file's operators between XNNPACK and TFLite's own kernels.

    Attributes:
        partitions: stretches of operators that it runs.
        undelegated: operators that it does not run, by name.
    """

    partitions: int
    undelegated: Mapping[str, int]

    def section(self) -> Section:
        """Return this for `inspect`."""
        left = ", ".join(f"{name} ({count})" for name, count in self.undelegated.items())
        return Section(
            "xnnpack",
            asdict(self),
            (
                ("XNNPACK partitions", str(self.partitions)),
                ("operators XNNPACK does not run", str(sum(self.undelegated.values()))),
            ),
            (f"Not run by XNNPACK: {left}.",) if left else (),
        )


def placement(path: Path) -> Placement:
    """Prepare a file as LiteRT does on a CPU, and return which operators XNNPACK took.

    Raises:
        ToolError: LiteRT cannot prepare the file.
    """
    program = "cloformer_deploy.backends.tflite.placement"
    with reachable(path.absolute()) as file, own_process(program, str(file), stdout=PIPE, stderr=DEVNULL) as child:
        answer = child.stdout.read() if child.stdout else b""
        code = child.wait()
    if code != 0:
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
    """Count the operators that compute a tensor that is read outside the delegates and that no delegate computes."""
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
