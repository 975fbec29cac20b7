"""Planting a fault: a copy of a bundle with one of its artifacts, spoilt, and a manifest that does not know."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.faults.edits import Edit
from benchmarks.faults.files import OPENERS
from benchmarks.faults.matching import Match, match
from cloformer_deploy.backends.registry import lower
from cloformer_deploy.backends.target import FLOATS
from cloformer_deploy.bundle import MANIFEST_NAME, Bundle, digest, size_bytes
from cloformer_deploy.bundle.manifest import Artifact


def alone(healthy: Bundle, artifact: Artifact, root: Path, source: Path | None = None) -> Bundle:
    """A bundle at `root` with one artifact: a copy of the healthy one's, or of the file `source` in its place."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    shutil.copy2(healthy.weights_path, root)
    source = source or healthy.path(artifact)
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / artifact.path)
    return _listed(healthy, artifact, root)


def _listed(healthy: Bundle, artifact: Artifact, root: Path) -> Bundle:
    """The manifest written, with the checksum and the size of what is there."""
    path = root / artifact.path
    listed = artifact.model_copy(update={"sha256": digest(path), "bytes": size_bytes(path)})
    manifest = healthy.manifest.model_copy(update={"artifacts": (listed,)})
    (root / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
    return Bundle.open(root)


def plant(healthy: Bundle, artifact: Artifact, model: nn.Module, edit: Edit, root: Path) -> tuple[Bundle, list[str]]:
    """Plant a fault in a copy of an artifact: it then computes what the edited model does.

    Of a file with integers only weights are changed where these are integers, not the biases.

    Returns:
        The bundle, and the paths in the lowered model of the layers whose weights or biases were changed.

    Raises:
        ValueError: a layer of the model is not found in the file.
    """
    bundle = alone(healthy, artifact, root)
    before, after = _lowered(model, artifact, None), _lowered(model, artifact, edit)
    stored, save = OPENERS[artifact.format](bundle.path(artifact))
    # All are found before any is written: what is written may be the weights of another layer.
    places = {path: match(before[f"{path}.weight"].numpy(), stored) for path in _changed(before, after)}
    for path, found in places.items():
        _write_weight(found, before[f"{path}.weight"].numpy(), after[f"{path}.weight"].numpy())
        if f"{path}.bias" in before:
            _write_bias(found, before[f"{path}.bias"].numpy(), after[f"{path}.bias"].numpy())
    save()
    return _listed(healthy, artifact, root), list(places)


def _lowered(model: nn.Module, artifact: Artifact, edit: Edit | None) -> dict[str, Tensor]:
    edited = copy.deepcopy(model)
    if edit is not None:
        edit(edited)
    lowered = lower(edited, artifact.format, artifact.target, integer=artifact.precision not in FLOATS)
    return lowered.state_dict()


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> Iterator[str]:
    """The layers that differ; `torch.equal` takes NaN for a difference."""
    differ = [name for name, value in before.items() if not torch.equal(value, after[name])]
    yield from dict.fromkeys(name.rpartition(".")[0] for name in differ)


def _write_weight(found: Match, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    values = np.broadcast_to(found.scale, after.shape) * after
    if found.view.dtype.kind == "i":
        values = np.clip(np.rint(values), -127, 127)
    where = before != after
    with np.errstate(over="ignore"):  # a weight beyond float16 is infinite: one of the faults
        found.view[where] = values.astype(found.view.dtype)[where]


def _write_bias(found: Match, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    where = before != after
    # Quantizing has corrected biases, so what is there is moved; where it is an integer it stays.
    if found.view.dtype.kind == "i" or not where.any():
        return
    bias = found.stored.bias
    if bias is None:
        raise ValueError(f"{found.stored.name} has no bias in the file")
    moved = bias.astype(np.float64) + found.of_outputs * (after.astype(np.float64) - before)
    with np.errstate(over="ignore"):
        bias[where] = moved.astype(bias.dtype)[where]
