"""The operations of MIL programs that the interpreter executes, in torch on the CPU."""

from cloformer_deploy.backends.coreml.interpreter.ops import (
    compression,
    elementwise,
    layout,
    linear,
    normalization,
    resizing,
)
from cloformer_deploy.backends.coreml.interpreter.ops.registry import OPERATORS, Operator, Slot, bind

__all__ = ["OPERATORS", "Operator", "Slot", "bind"]

# The modules are imported because importing one registers its operations.
_MODULES = (compression, elementwise, layout, linear, normalization, resizing)
