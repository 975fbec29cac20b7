"""Softmax written out as exponentials, a sum and a division."""

from torch import nn


class MaximumSubtracted(nn.Module):
    """Attention that subtracts each row's maximum before the exponential, so that it cannot overflow.

    Attributes:
        bounded: set where no logit can be large enough to overflow (`quantization.bounds`): the maximum is left out.
    """

    bounded = False
