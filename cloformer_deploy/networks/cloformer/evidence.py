"""Reads what files of CloFormer weights say beside the shapes: other names than the published ones, configurations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.cloformer.architecture import Architecture

LANDMARKS: tuple[str, ...] = ("patch_embed.conv1.conv.0.weight", "patch_embed.conv2.conv.0.weight")
KEYS = tuple(item.name for item in fields(Architecture) if item.name != "head")
"""The published keys; the names of the tensors say the head."""
STAGES = 4
_TELLING = ("group_splits", "window_sizes")
"""Keys that no other network's configuration has: a mapping without them says nothing of this one."""
_PER_STAGE = tuple(key for key in KEYS if key not in ("in_chans", "num_classes", "qkv_bias"))


def own_names(names: Collection[str]) -> dict[str, str]:
    """Return the published name of each name; see `Network.own_names`.

    A linear layer behind a dropout is `head.1`, or `head.0` before one.
    """
    if "patch_embed.layernorm.running_mean" in names:
        raise CheckpointError(
            "the stem ends in a BatchNorm (patch_embed.layernorm), not in the published GroupNorm",
            "this form of the network is not supported: train it with the published stem",
        )
    linear = sorted({name.split(".")[1] for name in names if name.startswith("head.") and name.count(".") == 2})
    if len(linear) > 1:
        raise CheckpointError(
            f"the head is an MLP ({', '.join(f'head.{index}' for index in linear)}), not one linear layer",
            "this form of the network is not supported: pass weights with a linear head",
        )
    inner = f"head.{linear[0]}." if linear else None
    return {name: f"head.{name.removeprefix(inner)}" if inner and name.startswith(inner) else name for name in names}


def said(mappings: Sequence[tuple[str, Mapping[str, Any]]], modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a file says of the configuration; see `Network.said`."""
    found: dict[str, tuple[str, Any]] = {}
    sources = [(place, _of_stages(entries)) for place, entries in mappings if any(key in entries for key in _TELLING)]
    for place, entries in (*sources, ("the saved module", _of_modules(modules))):
        for key, value in entries.items():
            before, known = found.setdefault(key, (place, value))
            if known != value:
                raise CheckpointError(
                    f"the file says two {key}: {known} at {before} and {value} at {place}",
                    "give the right configuration with --architecture FILE",
                )
    return {key: value for key, (_, value) in found.items()}


def _of_stages(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a configuration, without those that should be lists of one value per stage and are not.

    A training script's own options may have the same names.
    """
    return {
        key: value
        for key, value in entries.items()
        if key not in _PER_STAGE or (isinstance(value, list) and len(value) == STAGES)
    }


def _of_modules(modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the attributes of the first attention of each stage say, if they are all there."""
    attentions = [modules.get(f"layers.{stage}.blocks.0.attn", {}) for stage in range(STAGES)]
    windows = [item.get("window_size") for item in attentions]
    heads = [item.get("num_heads") for item in attentions]
    found = {"window_sizes": windows, "num_heads": heads}
    return {key: value for key, value in found.items() if all(isinstance(each, int) for each in value)}
