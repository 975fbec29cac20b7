"""The registry of file formats.

To add a format: a folder (or file) with an object that follows `base.Backend`, and an entry in `BACKENDS`. The command
line's choices, `doctor`, the manifest and the documentation read the registry.
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from cloformer_deploy.backends.base import Backend, Runtime
from cloformer_deploy.backends.coreai.format import CoreAIBackend
from cloformer_deploy.backends.coreml.format import CoreMLBackend
from cloformer_deploy.backends.onnx.format import OnnxBackend
from cloformer_deploy.backends.target import FLOATS, ArtifactKey, Target
from cloformer_deploy.backends.tflite.format import TFLiteBackend
from cloformer_deploy.errors import BundleError
from cloformer_deploy.quantization.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn

    _Model = TypeVar("_Model", bound=nn.Module)

_ALL: tuple[Backend, ...] = (OnnxBackend(), CoreMLBackend(), TFLiteBackend(), CoreAIBackend())
BACKENDS: dict[str, Backend] = {item.name: item for item in _ALL}
DEFAULT_FORMATS = ("onnx", "coreml", "tflite")
"""The formats of `export --format all`; others are asked for by name."""


def all_precisions() -> tuple[str, ...]:
    """Return every precision of any format and target; a target's own are in `Target.precisions`."""
    recipes = (target.recipes for item in BACKENDS.values() for target in item.targets.values())
    return (*FLOATS, *dict.fromkeys(precision for named in recipes for precision in named))


def all_targets() -> tuple[str, ...]:
    """Return the name of every target of any format, sorted."""
    return tuple(sorted({name for item in BACKENDS.values() for name in item.targets}))


def default_target(format_name: str) -> str:
    """Return the target that a format's files are for where none is asked for."""
    return next(iter(BACKENDS[format_name].targets))


def target_of(format_name: str, target_name: str) -> Target:
    """Return a format's target by its name."""
    return BACKENDS[format_name].targets[target_name]


def recipe_of(key: ArtifactKey) -> Recipe | None:
    """Return the quantization recipe of a kind of artifact; None for float precisions."""
    return target_of(key.format, key.target).recipes.get(key.precision)


def is_known(key: ArtifactKey) -> bool:
    """Tell whether a kind of artifact exists."""
    backend = BACKENDS.get(key.format)
    return backend is not None and key.target in backend.targets and key.precision in all_precisions()


def backend_of(path: Path) -> Backend:
    """Return the format that a file's suffix names.

    Raises:
        BundleError: the suffix is of no known format.
    """
    for item in BACKENDS.values():
        if path.suffix == item.suffix:
            return item
    known = ", ".join(item.suffix for item in BACKENDS.values())
    raise BundleError(f"{path} is no artifact: its suffix is none of {known}", "give an exported file or a bundle")


def runtime_for(format_name: str) -> Runtime:
    """Return the runtime that executes a format on this machine: the first that lacks nothing, else the last."""
    runtimes = BACKENDS[format_name].runtimes
    return next((runtime for runtime in runtimes if runtime.missing() is None), runtimes[-1])


def lower(model: "_Model", format_name: str, target_name: str, *, integer: bool = False) -> "_Model":
    """Do as `lower_for` with a format's target by its name."""
    return lower_for(model, target_of(format_name, target_name), integer=integer)


def lower_for(model: "_Model", target: Target, *, integer: bool = False) -> "_Model":
    """Return a copy of a model with a target's rewrites, in evaluation mode.

    Args:
        model: of a known network family.
        target: of a format.
        integer: the convolutions will be computed in integers.
    """
    from cloformer_deploy import lowering
    from cloformer_deploy.networks import network_of

    network = network_of(model)
    names, known = target.integer_rewrites if integer else target.rewrites, network.rewrites
    rewritable = cast("_Model", network.rewritable(model))
    return lowering.lower(rewritable, [known[name] for name in names if name in known])
