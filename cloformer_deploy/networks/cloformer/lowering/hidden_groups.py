"""Split ConvFFN's hidden channels into groups of at most 128, each with its own 1x1 conv, GELU and depthwise conv.

The hidden layer works channel by channel, so it can be split anywhere. XNNPACK's depthwise kernel goes through all
channels of a pixel before the next pixel: 25 taps of 128 channels (12.8 kB) and what they multiply stay in a
first-level cache of 32 kB, those of 512 channels do not.
"""

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.convolutions import by_input_channels, by_output_channels
from cloformer_deploy.networks.cloformer.body import ConvFFN

MAX_CHANNELS = 128
MAX_CONCATENATED = 4
"""Groups in one concatenation: XNNPACK runs those of at most five tensors. The second 1x1 conv is split to fit."""


class GroupedConvFFN(nn.Module):
    """A `ConvFFN` in groups of its hidden channels; (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""

    def __init__(self, ffn: ConvFFN) -> None:
        super().__init__()
        hidden = ffn.fc1.out_channels
        sizes = [len(part) for part in torch.arange(hidden).tensor_split(-(-hidden // MAX_CHANNELS))]
        shares = [sum(sizes[first : first + MAX_CONCATENATED]) for first in range(0, len(sizes), MAX_CONCATENATED)]
        self.fc1 = nn.ModuleList(by_output_channels(ffn.fc1, sizes))
        self.act = ffn.act
        self.dwconv = nn.ModuleList(by_output_channels(ffn.dwconv, sizes))
        self.fc2 = nn.ModuleList(by_input_channels(ffn.fc2, shares))

    def forward(self, x: Tensor) -> Tensor:
        """Run each group on its own, then the second 1x1 conv on all of them."""
        groups = [dwconv(self.act(fc1(x))) for fc1, dwconv in zip(self.fc1, self.dwconv, strict=True)]
        shares = [
            fc2(torch.cat(groups[index * MAX_CONCATENATED : (index + 1) * MAX_CONCATENATED], dim=1))
            for index, fc2 in enumerate(self.fc2)
        ]
        out: Tensor = shares[0]
        for share in shares[1:]:
            out = out + share
        return out


def group_hidden_channels(model: nn.Module) -> None:
    """Replace every `ConvFFN` of more than `MAX_CHANNELS` hidden channels, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ConvFFN) and child.fc1.out_channels > MAX_CHANNELS:
                setattr(parent, name, GroupedConvFFN(child))
