"""Tunings: choices for one artifact in place of its target's own. Apart from `target.py`, which needs no pydantic."""

from cloformer_deploy.system.schema import Strict


class Tuning(Strict):
    """Choices for one artifact that take the place of its target's own; `tune` finds them.

    Attributes:
        rewrites: names of the exact rewrites, in order.
        kinds: kinds of operators that are computed in integers; none for float precisions.
        float_layers: patterns of module paths whose operators stay float.
    """

    rewrites: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
