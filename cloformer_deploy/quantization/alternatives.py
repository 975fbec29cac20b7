"""Choices that differ in speed from device to device: what `tune` tries, as data.

To add one: an entry in `ALTERNATIVES`, and for float layers a pattern in `FLOAT_LAYERS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cloformer_deploy.quantization.recipes import STEM_ENDS

STAGES = range(4)
FLOAT_LAYERS: Mapping[str, str] = {
    "stem": STEM_ENDS,
    **{f"convffn-depthwise-{stage}": rf"layers\.{stage}\..*mlp\.dwconv" for stage in STAGES},
    **{f"attention-depthwise-{stage}": rf"layers\.{stage}\..*attn\.convs" for stage in STAGES},
    **{f"gate-{stage}": rf"layers\.{stage}\..*attn\.act_blocks" for stage in STAGES},
    **{f"queries-keys-values-{stage}": rf"layers\.{stage}\..*attn\.(qkvs|global_q|global_kv)" for stage in STAGES},
    **{f"convffn-{stage}": rf"layers\.{stage}\..*mlp\.fc" for stage in STAGES},
}
"""Patterns of module paths that a tuning may keep in float, by a name."""

ATTENTION = ("attend_keys_first", "attend_few_keys_first", "attend_in_blocks", "attend_head_by_head")
NORMALIZATION = ("normalize_in_two_steps", "normalize_axis_by_axis", "normalize_in_float16", "normalize_by_division")
"""Rewrites of one thing: a graph has at most one of each tuple."""


@dataclass(frozen=True)
class Alternative:
    """One change of a tuning; it is its own opposite where it toggles.

    Attributes:
        name: of what it changes.
        what: `rewrite` puts the names in place of all others of their group, or toggles a name that has no group;
            `kind` toggles whether operators of these kinds are integers; `float_layers` whether layers are float.
        names: rewrites, kinds, or keys of `FLOAT_LAYERS`; none for a rewrite's group left out altogether.
        group: rewrites of the same thing.
    """

    name: str
    what: Literal["rewrite", "kind", "float_layers"]
    names: tuple[str, ...]
    group: tuple[str, ...] = ()


def _rewrites() -> tuple[Alternative, ...]:
    grouped = [
        Alternative(name or f"no {title} rewrite", "rewrite", (name,) if name else (), group)
        for title, group in (("attention", ATTENTION), ("normalization", NORMALIZATION))
        for name in ("", *group)
    ]
    toggled = ("split_large_depthwise_kernels", "group_hidden_channels", "separate_branches")
    return (*grouped, *(Alternative(name, "rewrite", (name,)) for name in toggled))


REWRITES = _rewrites()
INTEGERS = (
    *(
        Alternative(name, "kind", (name,))
        for name in ("silu", "tanh", "mul", "concat", "gelu", "add", "pool", "linear", "matmul")
    ),
    *(Alternative(name, "float_layers", (name,)) for name in FLOAT_LAYERS),
)
