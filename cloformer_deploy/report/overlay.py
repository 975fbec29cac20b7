"""Figures of tensors as node data of Model Explorer, which shows them on the graph of the file.

Source: `node_data_builder.py` of https://github.com/google-ai-edge/model-explorer; `docs/overlay.md` has the steps.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.text import json_text

if TYPE_CHECKING:
    from cloformer_deploy.blame import Blame
    from cloformer_deploy.npu import Compiled, Placer

_BAD, _GOOD = "#d73027", "#ffffff"


def check_overlay(overlay: Path, format_name: str) -> None:
    """Check, before minutes of work, that an overlay of a format's file can be made and written to a path.

    Raises:
        RequestError: it cannot.
    """
    if BACKENDS[format_name].graph_keys is None:
        known = " and ".join(name for name, item in BACKENDS.items() if item.graph_keys is not None)
        raise RequestError(
            f"--overlay is for {known} files, and not for {format_name}: Model Explorer cannot show them",
            "leave --overlay out",
        )
    if overlay.suffix != ".json":
        raise RequestError(f"--overlay {overlay} is no JSON file", "end its name in .json")
    if overlay.is_dir() or not overlay.parent.is_dir():
        raise RequestError(f"--overlay {overlay} cannot be written there", "name a file in a folder that exists")


def blame_overlay(path: Path, blame: "Blame") -> Mapping[str, Any]:
    """Return node data with the SQNR (dB) that the operator behind each tensor has by itself; the lowest are red.

    Args:
        path: of the file.
        blame: the result for it.
    """
    return _node_data(path, blame.format, "SQNR of each operator by itself, dB", blame.tensor_sqnr_db, (_BAD, _GOOD))


def placement_overlay(path: Path, format_name: str, placer: "Placer", compiled: "Compiled") -> Mapping[str, Any]:
    """Return node data with the estimated cycles of each operator, or 1 for those on the NPU where none are estimated.

    Operators on the CPU have 0, and are red.

    Raises:
        RequestError: the compiler does not tell where single operators run.
    """
    if not compiled.layers:
        raise RequestError(
            f"of {placer.title} it is only known where types of operators run, not where each operator does",
            "leave --overlay out",
        )
    estimated = any(layer.cycles is not None for layer in compiled.layers)
    title = f"cycles on {placer.title}, estimated; 0 on the CPU" if estimated else f"1 on {placer.title}, 0 on the CPU"
    values: Counter[str] = Counter()
    for layer in compiled.layers:  # an operator may be compiled to several steps
        values[layer.name] += 0 if layer.unit == "CPU" else 1 if layer.cycles is None else layer.cycles
    on_cpu = frozenset(layer.name for layer in compiled.layers if layer.unit == "CPU")
    return _node_data(path, format_name, title, values, (_GOOD, "#fdae61") if estimated else None, on_cpu)


def _node_data(
    path: Path,
    format_name: str,
    title: str,
    values: Mapping[str, float],
    colors: tuple[str, str] | None,
    red: frozenset[str] = frozenset(),
) -> Mapping[str, Any]:
    """Return node data of one graph, by the keys of its nodes; a node of several tensors has their lowest value.

    Args:
        path: of the file.
        format_name: its format.
        title: of the figures.
        values: of each tensor, by its name in the file or as the format's `TensorReader` has it.
        colors: of the lowest and of the highest value.
        red: tensors whose nodes are red whatever their value is.

    Raises:
        ToolError: none of the tensors is one of the file's.
    """
    keys_of = BACKENDS[format_name].graph_keys
    assert keys_of is not None  # noqa: S101 - see `check_overlay`
    keys = keys_of(path)
    lowest: dict[str, dict[str, float | str]] = {}
    for name, value in values.items():
        key = keys.nodes.get(name)
        if key is None or (key in lowest and float(lowest[key]["value"]) <= value):
            continue
        lowest[key] = {"value": value, **({"bgColor": _BAD} if name in red else {})}
    if not lowest:
        raise ToolError(f"no tensor of {path} has a figure", "report this")
    data: dict[str, Any] = {"name": title, "results": lowest}
    if colors is not None:
        data["gradient"] = [{"stop": stop, "bgColor": color} for stop, color in enumerate(colors)]
    return {keys.graph: data}


def write_overlay(overlay: Path, data: Mapping[str, Any]) -> None:
    """Write node data; an error leaves what was there before.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(overlay) as staged:
        staged.write_text(json_text(data), encoding="utf-8")
