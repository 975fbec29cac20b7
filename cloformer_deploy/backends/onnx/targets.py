"""Targets of ONNX files."""

from collections.abc import Mapping
from dataclasses import replace

from cloformer_deploy.backends.target import FOLDS, Target
from cloformer_deploy.quantization.alternatives import FLOAT_LAYERS
from cloformer_deploy.quantization.recipes import INT8, MIX, MIXED_NPU, PREDICTIONS, STEM_ENDS, W8, Recipe

# Hexagon's 8-bit softmax is 10 % too large where the attention is nearly uniform: it has 16 bits (docs/npu.md).
_HEXAGON = (*FOLDS, "normalize_by_division")
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            "cpu",
            rewrites=(*FOLDS, "attend_keys_first", "separate_branches"),
            # Integer convolutions do not use the blocked layout that separate branches are for.
            integer_rewrites=(*FOLDS, "attend_keys_first"),
            recipes={
                # ONNX Runtime's float depthwise kernels are faster than its integer ones on large feature maps.
                INT8: Recipe(
                    "w8a8-mix",
                    8,
                    8,
                    MIX,
                    excluded_layers=(
                        STEM_ENDS,
                        PREDICTIONS,
                        *(FLOAT_LAYERS[f"convffn-depthwise-{stage}"] for stage in (0, 1)),
                    ),
                ),
                "w8": W8,
            },
        ),
        Target(
            "hexagon",
            rewrites=_HEXAGON,
            integer_rewrites=_HEXAGON,
            recipes={**MIXED_NPU, INT8: replace(MIXED_NPU[INT8], excluded_kinds=frozenset({"softmax"}))},
        ),
    )
}
