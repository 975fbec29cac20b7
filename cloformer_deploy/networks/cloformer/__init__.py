"""CloFormer (arXiv 2303.17803) in PyTorch, with the published parameter names; the variants as data."""

from importlib import import_module
from typing import TYPE_CHECKING

from cloformer_deploy.networks.cloformer.architecture import CUSTOM, VARIANTS, Architecture, configured

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer.attention import CloAttention
    from cloformer_deploy.networks.cloformer.body import CloFormerBody
    from cloformer_deploy.networks.cloformer.classifier import CloFormer, create_model

__all__ = [
    "CUSTOM",
    "VARIANTS",
    "Architecture",
    "CloAttention",
    "CloFormer",
    "CloFormerBody",
    "configured",
    "create_model",
]

# Command-line choices and manifests need the variants without torch: modules that need torch are imported on first use.
_NEED_TORCH = {
    "CloAttention": "attention",
    "CloFormer": "classifier",
    "CloFormerBody": "body",
    "create_model": "classifier",
}


def __getattr__(name: str) -> object:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
