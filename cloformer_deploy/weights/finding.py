"""Finding a network's state dict, and what is said of its configuration, in whatever a training script saved."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cloformer_deploy.system.text import clipped, counted, listed
from cloformer_deploy.weights.records import Record, TensorRecord

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts of names that torch.compile, FSDP and activation checkpointing add wherever they wrap a module."""
COUNTERS = ("total_ops", "total_params", "n_averaged")
"""Last part of the names of counters that profilers (thop) and averages of weights add."""
_AVERAGED = re.compile(r"(^|[._])(ema|averag(e|ed|ing))([._]|$)|_ema\b|\bema_", re.IGNORECASE)
_MAX_DEPTH, _MAX_NAMES = 64, 200_000


@dataclass(frozen=True)
class Found:
    """A state dict within the content of a file.

    Attributes:
        place: path of keys to it; empty at the top.
        prefix: of its names before the network's own; removed from `entries`.
        entries: values by the network's own names; not checked.
        averaged: whether its place says that it is a moving average of weights.
        notes: sentences on where it was found and on what was left out.
        modules: attributes of the modules by their paths, where whole modules were saved.
    """

    place: str
    prefix: str
    entries: dict[str, Any]
    averaged: bool = False
    notes: tuple[str, ...] = ()
    modules: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def walk(content: Any) -> Iterator[Any]:
    """Yield every container and record within a content once, outer ones first, each followed by what it holds."""
    for _, value in _with_places(content):
        yield value
        yield from (inner for _, inner in _children(value))


def state_dicts(content: Any, landmarks: Sequence[str]) -> list[Found]:
    """Return the state dicts of a network, the one to use first: averaged weights, then the least deeply nested.

    Args:
        content: of a file, unpickled.
        landmarks: names of which every state dict of the network has one at least, perhaps after a prefix.
    """
    found = []
    for place, value in _with_places(content):
        entries, modules = _named(value)
        before = [name.removesuffix(mark) for mark in landmarks for name in entries if name.endswith(mark)]
        prefixes = dict.fromkeys(prefix for prefix in before if prefix[-1:] in ("", "."))
        wrappers = [wrapper for wrapper in WRAPPERS if prefixes and any(wrapper in name for name in _text_keys(value))]
        notes = [f"the wrapper {wrapper} in their names is removed" for wrapper in wrappers]
        found += [_below(place, prefix, entries, modules, notes) for prefix in prefixes]
    swapped = isinstance(content, dict) and "message_hub" in content  # mmengine saves the average as `state_dict`
    return sorted(found, key=lambda item: (not item.averaged or swapped, item.place.count("."), len(item.prefix)))


def configurations(content: Any, keys: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the places and entries of mappings that have some of the keys, without their other keys."""
    found = []
    for place, value in _with_places(content):
        for entries in _mappings(value):
            said = {key: plain(entries[key]) for key in keys if key in entries and entries[key] is not None}
            if said:
                found.append((place, said))
    return found


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value with lists for tuples and for records of lists; a value of another kind stays as it is."""
    if isinstance(value, Record) and value.items and depth < _MAX_DEPTH:
        value = value.items
    if isinstance(value, list | tuple) and depth < 4 and len(value) <= 64:
        return [plain(item, depth + 1) for item in value]
    return value


def tensor_names(content: Any) -> list[str]:
    """Return the places of all tensors."""
    found = []
    for place, value in _with_places(content):
        entries, _ = _named(value)
        found += [
            f"{place}.{name}" if place else name
            for name, inner in entries.items()
            if isinstance(inner, Tensor | TensorRecord)
        ]
    return found


def outline(content: Any) -> str:
    """Return in a few words what the content of a file is."""
    if isinstance(content, dict):
        return f"a dictionary of {listed([str(key) for key in content])}" if content else "an empty dictionary"
    if isinstance(content, Record):
        return f"an object of {content.name}, whose code is never run"
    return f"of type {type(content).__name__}"


def _with_places(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value with the path of keys to it, breadth first, each once."""
    level, seen = [("", content)], {id(content)}
    for _ in range(_MAX_DEPTH):
        following = []
        for place, value in level:
            yield place, value
            for key, inner in _children(value):
                if id(inner) not in seen and isinstance(inner, dict | list | tuple | Record):
                    seen.add(id(inner))
                    following.append((f"{place}.{key}" if place and key else place or key, inner))
        level = following


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((key if isinstance(key, str) else "", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        yield from (("", inner) for inner in value)
    elif isinstance(value, Record):
        yield from (("", inner) for inner in (value.arguments, value.state, value.items))
        yield from _children(value.entries)


def _mappings(value: Any) -> list[Mapping[Any, Any]]:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, Record):
        return [value.entries]
    return []


def _named(value: Any) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the entries of a state dict, or of a whole module, by name; of a module also its modules' attributes."""
    if isinstance(value, dict):
        return {_unwrapped(name): inner for name, inner in value.items() if isinstance(name, str)}, {}
    if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
        return _module_entries(value)
    return {}, {}


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _module_entries(module: Record) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the state dict of a saved module, as `Module.state_dict` names it, and its modules' attributes."""
    entries: dict[str, Any] = {}
    modules: dict[str, Mapping[str, Any]] = {}
    waiting: list[tuple[str, Any, int]] = [("", module, 0)]
    while waiting and len(entries) < _MAX_NAMES and len(modules) < _MAX_NAMES:
        prefix, record, depth = waiting.pop()
        if not isinstance(record, Record) or not isinstance(record.state, dict):
            continue
        modules[prefix.removesuffix(".")] = record.state
        for kind in ("_parameters", "_buffers"):
            entries |= {
                _unwrapped(f"{prefix}{name}"): value
                for name, value in _string_entries(record.state.get(kind))
                if value is not None
            }
        if depth < _MAX_DEPTH:
            waiting += [
                (_unwrapped(f"{prefix}{name}."), inner, depth + 1)
                for name, inner in _string_entries(record.state.get("_modules"))
            ]
    return entries, modules


def _string_entries(value: Any) -> list[tuple[str, Any]]:
    """Return the entries with textual keys of a dictionary, or of a record of one."""
    return [(key, inner) for found in _mappings(value) for key, inner in found.items() if isinstance(key, str)]


def _is_remark(name: str, value: Any) -> bool:
    """Tell whether an entry is no tensor and has no module's name, like the number of an epoch."""
    return "." not in name and not isinstance(value, Tensor | TensorRecord | Record)


def _text_keys(value: Any) -> Iterator[str]:
    return (key for key in value if isinstance(key, str)) if isinstance(value, dict) else iter(())


def _below(
    place: str,
    prefix: str,
    entries: dict[str, Any],
    modules: dict[str, Mapping[str, Any]],
    wrapped: Sequence[str],
) -> Found:
    """Return the entries whose names begin with a prefix, without it; `wrapped` are notes on wrappers."""
    counters = {name for name in entries if name.rpartition(".")[2] in COUNTERS}
    own = {
        name.removeprefix(prefix): value
        for name, value in entries.items()
        if name.startswith(prefix) and name not in counters and not _is_remark(name, value)
    }
    averaged = _AVERAGED.search(f"{place}.{prefix}") is not None
    others = len(entries) - len(own) - len(counters)
    notes = [f"the weights are those at {place}" + (", a moving average" if averaged else "")] if place else []
    notes += ["they are of a whole module, whose code is not run"] if modules else []
    notes += wrapped
    notes += [f"the prefix {prefix} of their names is removed"] if prefix else []
    notes += [f"{counted(len(counters), 'counter')} of profilers or averages left out"] if counters else []
    notes += [f"{counted(others, 'entry', 'entries')} of other parts left out"] if others else []
    return Found(
        place,
        prefix,
        own,
        averaged,
        tuple(map(clipped, notes)),
        {name.removeprefix(prefix): value for name, value in modules.items() if f"{name}.".startswith(prefix)},
    )
