"""Weights of the variants that benchmarks on photographs export: trained for xxs, random for xs and s."""

from pathlib import Path

import torch

from benchmarks import latency
from benchmarks.int8 import PHOTOGRAPHS

TRAINED = "xxs"


def weights_of(variant: str, photographs: Path, folder: Path) -> tuple[str, Path | None]:
    """Return name or file of a variant's weights, and the file of its labels, if it has any.

    Args:
        variant: xxs, xs or s.
        photographs: folder with `drift224`, whose sub-folders are named by WordNet's numbers.
        folder: where files are written.
    """
    if variant != TRAINED:
        weights = folder / f"random-{variant}.pth"
        torch.save(latency.timed_model(variant).state_dict(), weights)
        return str(weights), None
    labels = folder / "labels.txt"  # WordNet's numbers are in the order of the classes
    labels.write_text("\n".join(sorted(item.name for item in (photographs / "drift224").iterdir() if item.is_dir())))
    return PHOTOGRAPHS, labels
