"""Replace the Clo modules of any network by ours, each after its equality was proven on an example."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.cloformer.attention import CloAttention
from cloformer_deploy.networks.cloformer.body import CloBlock, ConvFFN
from cloformer_deploy.networks.cloformer.finding import ALIKE_DB, UnlikeError, alike, candidates, looks_like

TITLES = {"attention": "Clo attention", "ffn": "ConvFFN", "block": "Clo block", "activation": "activation"}
_ACTIVATIONS = (nn.SiLU, nn.GELU)


@dataclass(frozen=True)
class Replaced:
    """A module that was replaced by one of ours.

    Attributes:
        path: dotted name in the network.
        kind: a key of `TITLES`.
        class_name: of the module that stood there.
        now: what stands there now, in words.
    """

    path: str
    kind: str
    class_name: str
    now: str


@dataclass(frozen=True)
class LeftAlone:
    """A module that has the names of a Clo module's parts and was left as it is.

    Attributes:
        path: dotted name in the network.
        class_name: of the module.
        reason: why it was left.
    """

    path: str
    class_name: str
    reason: str


@dataclass
class Finding:
    """The Clo modules of a network, and the look-alikes."""

    replaced: list[Replaced] = field(default_factory=list)
    left_alone: list[LeftAlone] = field(default_factory=list)


def replace_clo_modules(model: nn.Module, example: Tensor) -> Finding:
    """Replace attentions, then feed-forward networks, then blocks of both, then activations of classes of their own.

    Args:
        model: any network in evaluation mode, float32; it is changed in place.
        example: an input of it.
    """
    found = Finding()
    for kind in ("attention", "ffn", "block"):
        places = {path: module for path, module in model.named_modules() if looks_like(module) == kind}
        _replace(model, example, kind, places, found)
    own = {path: module for path, module in model.named_modules() if _is_own_activation(module)}
    _replace(model, example, "activation", own, found)
    return found


def _replace(model: nn.Module, example: Tensor, kind: str, places: dict[str, nn.Module], found: Finding) -> None:
    inputs = _inputs(model, example, places)
    for path, module in places.items():
        name = type(module).__name__
        try:
            ours = _proven(module, kind, inputs[path])
        except UnlikeError as error:
            if kind != "activation":
                found.left_alone.append(LeftAlone(path, name, str(error)))
            continue
        if not path:
            found.left_alone.append(LeftAlone(path, name, "it is the whole model: give a network that holds it"))
            continue
        put(model, module, ours)
        found.replaced.append(Replaced(path, kind, name, _told(ours)))


def _inputs(model: nn.Module, example: Tensor, places: dict[str, nn.Module]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what each module is called with while the example is run."""
    seen: dict[str, list[tuple[Any, ...]]] = {path: [] for path in places}

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
            kept = (*args, *kwargs.values())
            seen[path].append(tuple(item.clone() if isinstance(item, Tensor) else item for item in kept))

        return hook

    handles = [
        module.register_forward_pre_hook(note(path), with_kwargs=True, prepend=True) for path, module in places.items()
    ]
    try:
        if places:
            with torch.no_grad():
                model(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _proven(module: nn.Module, kind: str, calls: list[tuple[Any, ...]]) -> nn.Module:
    """Return ours that computes what a module does.

    Raises:
        UnlikeError: none does, or that could not be seen.
    """
    if not calls:
        raise UnlikeError("the example does not reach it")
    (first, *others), *_ = calls
    if others or not isinstance(first, Tensor):
        raise UnlikeError("it is called with something else than one tensor")
    if module._forward_hooks or module._forward_pre_hooks:
        raise UnlikeError("it has forward hooks, which ours would not run")
    best = -float("inf")
    for ours in candidates(module, kind) if kind != "activation" else (form() for form in _ACTIVATIONS):
        try:
            best = max(best, ratio := alike(module, ours, first))
        except Exception as error:  # whatever their code raises
            raise UnlikeError(f"it could not be compared: {type(error).__name__}: {str(error)[:200]}") from error
        if ratio >= ALIKE_DB:
            return ours
    raise UnlikeError(f"it computes something else than a {TITLES[kind]} of its weights: {best:.0f} dB in float64")


def _is_own_activation(module: nn.Module) -> bool:
    """Tell whether a module may be an activation in a class of somebody's own: without weights and parts."""
    bare = not [*module.children(), *module.parameters(), *module.buffers()]
    return bare and not type(module).__module__.startswith(("torch.", "cloformer_deploy."))


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module wherever it stands."""
    carry_attributes(old, new)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children leaves a second name of a module out
            if child is old:
                parent.add_module(name, new)


def carry_attributes(old: nn.Module, new: nn.Module) -> None:
    """Give a module the attributes that the surroundings of another put on it, such as Ultralytics' `f` and `i`."""
    for name, value in vars(old).items():
        if name[:1] != "_" and name not in vars(new) and not isinstance(value, (Tensor, nn.Module)):
            new.__dict__[name] = copy.copy(value)


def _told(ours: nn.Module) -> str:
    if isinstance(ours, CloAttention):
        heads = [width // ours.dim_head for width in ours.local_dims]
        kernels = [conv.kernel_size[0] for conv in ours.convs]  # type: ignore[index]
        pooled = f", window {ours.window_size}" if ours.global_heads else ""
        return f"{heads} local heads with kernels {kernels}, {ours.global_heads} global heads{pooled}"
    if isinstance(ours, ConvFFN):
        return f"{ours.fc1.in_channels} to {ours.fc1.out_channels} to {ours.fc2.out_channels} channels"
    if isinstance(ours, CloBlock):
        return "its skip is the identity" if isinstance(ours.downsample, nn.Identity) else "its skip down-samples"
    return type(ours).__name__


def clo_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yield our attentions and feed-forward networks in a model."""
    return (module for module in model.modules() if isinstance(module, (CloAttention, ConvFFN)))
