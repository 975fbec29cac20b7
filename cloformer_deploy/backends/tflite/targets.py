"""Targets of TFLite files."""

from collections.abc import Mapping

from cloformer_deploy.backends.target import FOLDS, Target
from cloformer_deploy.quantization.recipes import INT8, MIX, MIXED_NPU, PREDICTIONS, STEM_ENDS, W8, Recipe

_ETHOS_U = (*FOLDS, "normalize_axis_by_axis", "attend_in_blocks", "clip_by_relus")
_CPU = (*FOLDS, "normalize_in_two_steps", "attend_few_keys_first", "split_large_depthwise_kernels")
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            "cpu",
            rewrites=(*_CPU, "group_hidden_channels"),
            # Integer convolutions do not have the cache misses that groups of hidden channels are for.
            integer_rewrites=_CPU,
            recipes={INT8: Recipe("w8a8-mix", 8, 8, MIX, excluded_layers=(STEM_ENDS, PREDICTIONS)), "w8": W8},
        ),
        Target("ethos-u", rewrites=_ETHOS_U, integer_rewrites=_ETHOS_U, recipes=MIXED_NPU),
    )
}
