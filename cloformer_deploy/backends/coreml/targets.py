"""Targets of Core ML packages, and the versions of iOS that they can be made for."""

from collections.abc import Mapping

from cloformer_deploy.backends.target import FOLDS, Target
from cloformer_deploy.quantization.recipes import CONVOLUTIONS, INT8, PREDICTIONS, STEM_ENDS, W8, Recipe

IOS_TARGETS = (15, 16, 17, 18, 26)
DEFAULT_IOS = 17
_ANE = (*FOLDS, "shrink_residual_stream", "normalize_in_float16", "attend_head_by_head")
TARGETS: Mapping[str, Target] = {
    "ane": Target(
        "ane",
        rewrites=_ANE,
        integer_rewrites=_ANE,
        recipes={
            # The Neural Engine computes an operator in integers if its inputs are integers; rounding its outputs too
            # would cost 1 to 2 dB.
            INT8: Recipe(
                "w8a8-conv", 8, 8, CONVOLUTIONS, excluded_layers=(STEM_ENDS, PREDICTIONS), rounds_outputs=False
            ),
            "w8": W8,
            "p8": Recipe("p8", 8, palette=True),
            "p6": Recipe("p6", 6, palette=True),
        },
    )
}
