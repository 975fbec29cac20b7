"""Measure once for several formats: histograms of one lowered form serve others, where they have the same tensors.

Rewrites are exact, so that most tensors of two lowered forms are equal but for rounding, or for a power of 2 where the
residual stream is scaled. They are matched by their fingerprints on a few images, as tensors of converted files are;
what has no match is observed by itself.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

from cloformer_deploy.quantization.observers import Histogram
from cloformer_deploy.quantization.tensor_matching import Fingerprint, fingerprints, nearest

PROBE = 2
"""Images that tensors are matched on."""
FEWEST = 64
"""Numbers of a tensor, in all images of the probe, that its fingerprint can be told from others by."""
TOLERANCE = 1e-4
"""As that of `tensor_matching`, and smaller: both forms are computed by PyTorch, which rounds alike."""
POWERS = (0, *(sign * power for power in range(1, 7) for sign in (-1, 1)))
"""Powers of 2 that tensors may differ by, the most likely first."""
_POLL_S = 0.02


@dataclass(frozen=True)
class Measured:
    """A model with equalized channels, and histograms of the tensors of one of its lowered forms.

    Attributes:
        model: equalized, not lowered.
        seen: histograms by node of the lowered form.
        probe: normalized images (n, 3, H, W).
        known: fingerprints of these nodes on them.
    """

    model: nn.Module
    seen: Mapping[str, Histogram]
    probe: Tensor
    known: Mapping[str, Fingerprint]

    def of(self, traced: fx.GraphModule, names: Collection[str]) -> dict[str, Histogram]:
        """Return the histograms of those of the named nodes of a lowered form that have the same tensors.

        A tensor that is 0 in all images, or has few numbers, has nothing that it could be recognized by.
        """
        mine = fingerprints(traced, self.probe, names)
        left = {name: item for name, item in mine.items() if item[0] >= FEWEST and item[1] > 0}
        histograms: dict[str, Histogram] = {}
        for power in POWERS:
            scaled = ((name, item * np.where(np.arange(len(item)) == 1, 2.0**-power, 1)) for name, item in left.items())
            for name, node in nearest(self.known, scaled, TOLERANCE).items():
                histograms[name] = self.seen[node].scaled(power)
            left = {name: item for name, item in left.items() if name not in histograms}
        return histograms

    def save(self, path: Path) -> None:
        """Write this for other processes of this tool, which see the whole file or none."""
        unfinished = path.with_suffix(".part")
        torch.save((self.model, dict(self.seen), self.probe, dict(self.known)), unfinished)
        unfinished.replace(path)


def await_measured(path: Path) -> Measured:
    """Read what `Measured.save` writes, once it is there. Never for foreign files: they could run code."""
    while not path.exists():
        time.sleep(_POLL_S)
    return Measured(*torch.load(path, weights_only=False))
