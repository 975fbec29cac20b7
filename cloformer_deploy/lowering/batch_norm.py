"""Fold BatchNorm into the convolution before it.

In evaluation BatchNorm is y = (x - mean) / sqrt(var + eps) * gamma + beta, one scale and shift a channel,
which the convolution's weight and bias can carry. Converters do it too, each in its own way; done here,
the weights of every file can be compared with the same tensors.
"""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> None:
    """Fold each BatchNorm2d that follows a Conv2d in an `nn.Sequential`, in place."""
    for module in model.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index, (conv, norm) in enumerate(pairwise(module)):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(conv, norm)
                module[index + 1] = nn.Identity()
