"""A CloFormer of four blocks, one per stage, which converts faster than the published ones of twelve."""

import dataclasses
from pathlib import Path
from typing import cast

import torch
from torch import nn

from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.networks.cloformer import Architecture, CloFormer, configured
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.heads import network
from cloformer_deploy.weights.checkpoints import Checkpoint, save_checkpoint

TINY = configured((32, 32, 48, 48), ((1, 1), (1, 1), (2, 1), (1, 2)), depths=(1, 1, 1, 1), num_classes=10)
"""Its heads are 16 channels wide, which is assumed where a file does not say it."""
BLOCKS = 4


TRAINED = Path(__file__).parent / "models" / "tiny-rendered.safetensors"
"""The same network for the 20 classes of the rendered task, trained at 64 x 64; see the card beside it."""
SCENES = TRAINED.with_name("tiny-scenes.safetensors")
"""The same body with the segmentation head, trained on rendered scenes at 64 x 64; see its card."""
SCENE_BOXES = TRAINED.with_name("tiny-scene-boxes.safetensors")
"""The same body with the detection head, trained on rendered scenes at 64 x 64; see its card."""
TRAINED_SIDE = 64
SCENES_SIZE = (64, 96)
"""Height and width of the files that tests make of `SCENES` and `SCENE_BOXES`."""


def as_trained(architecture: Architecture, seed: int) -> CloFormer:
    """Return a classifier as `as_trained_network` does."""
    return cast(CloFormer, as_trained_network(architecture, seed))


def as_trained_network(architecture: Architecture, seed: int) -> CloFormerBody:
    """Return a model as after training: statistics and affine parameters away from their initial 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(architecture).eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
                    module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(std=0.3)
    return model


def tiny_checkpoint(**changes: object) -> Checkpoint:
    """Return seeded random weights of `TINY`, whose metadata says their configuration.

    Args:
        **changes: fields of `Checkpoint`.
    """
    model = as_trained(TINY, seed=0)
    made = Checkpoint(
        "tiny",
        "0" * 64,
        TINY.variant,
        TINY.num_classes,
        architecture=TINY.as_json(),
        state_dict=model.state_dict(),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def save_untrained(path: Path) -> None:
    """Write the weights from which `TRAINED` was trained: of `TINY` with the classes of the rendered task, seeded."""
    architecture = TINY.of_classes(len(CLASSES))
    torch.manual_seed(0)
    made = tiny_checkpoint(
        labels=CLASSES,
        num_classes=architecture.num_classes,
        architecture=architecture.as_json(),
        state_dict=CloFormer(architecture).state_dict(),
    )
    save_checkpoint(made, path)
