"""Exact rewrites that any network can use: folding BatchNorm, splitting kernels, normalizing in two steps.

The rewrites of one network family are in its own folder, `networks/FAMILY/lowering/`. A target names the rewrites that
it wants (`backends.target.Target`), and a network supplies those of them that it has (`networks.base.Network`).
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

_Model = TypeVar("_Model", bound=nn.Module)


def lower(model: _Model, rewrites: Iterable[Callable[[Any], None]]) -> _Model:
    """Return a rewritten copy of a model, in evaluation mode; the original is not changed.

    Args:
        model: any model that the rewrites know.
        rewrites: applied in this order, each in place.
    """
    lowered = copy.deepcopy(model).eval()
    for rewrite in rewrites:
        rewrite(lowered)
    return lowered


__all__ = ["lower"]
