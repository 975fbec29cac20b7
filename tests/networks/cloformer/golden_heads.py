"""Golden cases of heads: weights and an image from names alone, and the outputs that were committed for them.

python -m tests.networks.cloformer.golden_heads

writes golden_heads.npz again, which must not change unless a head is meant to.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloformer_deploy.networks.cloformer.architecture import HeadName
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.heads import network
from tests.tiny import TINY

FILE = Path(__file__).with_suffix(".npz")
CLASSES = 5
IMAGE = (1, 3, 64, 96)
OUTPUTS: dict[HeadName, tuple[str, ...]] = {"semantic_fpn": ("logits",), "anchor_free": ("boxes", "scores")}


def values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return numbers of 0 to 1 that depend on a name alone: numpy keeps the raw stream of this generator."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape, dtype=np.int64)))
    return ((raw >> np.uint64(40)).astype(np.float64) * 2.0**-24).astype(np.float32).reshape(shape)


def model(head: HeadName) -> CloFormerBody:
    """Return a network with its golden weights: those of layers within 1.7 over the root of their inputs."""
    made = network(TINY.of_head(head, CLASSES)).eval()
    state = {}
    for name, tensor in made.state_dict().items():
        shape = tuple(tensor.shape)
        filled = torch.from_numpy(values(name, shape))
        if name.endswith("num_batches_tracked"):
            filled = torch.zeros((), dtype=torch.int64)
        elif tensor.ndim == 1:
            filled = filled + 0.5 if name.endswith(("var", "weight")) else filled - 0.5
        else:
            filled = (2 * filled - 1) * 1.7 / float(np.sqrt(np.prod(shape[1:])))
        state[name] = filled
    made.load_state_dict(state)
    return made


def outputs(head: HeadName) -> dict[str, NDArray[np.float32]]:
    """Return what the network computes for the golden image, by the names of `OUTPUTS`."""
    image = torch.from_numpy(4 * values("image", IMAGE) - 2)
    with torch.inference_mode():
        found = model(head)(image)
    tensors = found if isinstance(found, tuple) else (found,)
    return {name: tensor.numpy() for name, tensor in zip(OUTPUTS[head], tensors, strict=True)}


if __name__ == "__main__":
    stored: dict[str, Any] = {name: values for head in OUTPUTS for name, values in outputs(head).items()}
    np.savez_compressed(FILE, **stored)
