"""Known wrong results of Apple's accelerators, as rules over the operations of a program, each with its thread.

The CPU computes all of these right, and so does Apple's interpreter: only a device shows them. To add a rule: a
function of a `_Graph` that yields names of tensors, and an entry in `LINTS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloformer_deploy.backends.coreai.program import Operation, Program, Value
from cloformer_deploy.backends.description import Section

ARGMAX = "argmax has been silently wrong on Apple's accelerators (apple/coreai-torch 116)"
BLOCKS = (
    "weights with a scale for each block have been silently wrong on the Neural Engine: cosine 0.367 "
    "(apple/coreai-models 279)"
)
_TOP_K = "topk and gather in float16 have been silently wrong on accelerators (apple/coreai-torch 115)"
_HARDSWISH = (
    "a product of two-dimensional matrices before Hardswish was 3.9 % off on accelerators (apple/coreai-torch 51)"
)


@dataclass(frozen=True)
class _Graph:
    operations: tuple[Operation, ...]
    makers: dict[str, Operation]
    values: dict[str, Value]

    def of(self, *types: str) -> Iterator[Operation]:
        return (item for item in self.operations if item.type in types)


def _argmax(graph: _Graph) -> Iterator[str]:
    yield from (item.outputs[0].name for item in graph.of("argmax"))


def _top_k(graph: _Graph) -> Iterator[str]:
    """The converter makes argsort and slices of topk."""
    orders = [item.outputs[0].name for item in graph.of("argsort")]
    gathers = [item for item in graph.of("gather_along_axis", "gather_nd") if item.outputs[0].dtype == "float16"]
    if gathers:
        yield from orders


def _hardswish(graph: _Graph) -> Iterator[str]:
    """The converter makes x * hard_sigmoid(x) of Hardswish, and a product and an addition of Linear."""
    for item in graph.of("hard_sigmoid"):
        maker = graph.makers.get(item.inputs[0])
        if maker is not None and maker.type == "add":
            maker = graph.makers.get(maker.inputs[0])
        if maker is not None and maker.type == "batch_matmul" and len(maker.outputs[0].shape) == 2:
            yield item.outputs[0].name


def _blocks(graph: _Graph) -> Iterator[str]:
    for item in graph.of("blockwise_shift_scale"):
        scale = graph.values.get(item.inputs[1])
        if scale is not None and any(size > 1 for size in scale.shape[1:]):
            yield item.outputs[0].name


LINTS: dict[str, Callable[[_Graph], Iterator[str]]] = {
    ARGMAX: _argmax,
    _TOP_K: _top_k,
    _HARDSWISH: _hardswish,
    BLOCKS: _blocks,
}
"""Known faults, each with the function that finds its pattern."""
_SHOWN = 3


def lints(program: Program) -> Iterator[str]:
    """Yield what accelerators may compute wrong in a program, in sentences."""
    graph = _Graph(
        program.operations,
        {output.name: item for item in program.operations for output in item.outputs},
        {output.name: output for item in program.operations for output in item.outputs},
    )
    for text, find in LINTS.items():
        names = list(find(graph))
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{', '.join(names[:_SHOWN])}{more}: {text}"


def section(program: Program) -> Section:
    """Return what `inspect` tells of a program beside its description."""
    found = tuple(f"Look at this on a device: {text}" for text in lints(program))
    passed = () if found else (f"None of {len(LINTS)} patterns that accelerators have computed wrong.",)
    return Section("accelerators", {"lints": list(found)}, (), found, passed)
