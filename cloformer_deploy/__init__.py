"""CloFormer on phones and edge boards: export, quantize, validate, profile."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer.attention import CloAttention
    from cloformer_deploy.networks.cloformer.classifier import create_model
    from cloformer_deploy.own.export import export
    from cloformer_deploy.own.prepare import prepare

__version__ = "0.1.0"

__all__ = ["CloAttention", "__version__", "create_model", "export", "prepare"]

# Imported on first use: importing the package imports neither torch nor a converter.
_PLACES = {
    "CloAttention": "networks.cloformer.attention",
    "create_model": "networks.cloformer.classifier",
    "export": "own.export",
    "prepare": "own.prepare",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
