"""The state from which a killed training goes on, in one file that is replaced atomically."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cloformer_deploy.errors import CheckpointError, RequestError
from cloformer_deploy.system.text import clipped
from cloformer_deploy.weights.files import Parsed, parse, read
from cloformer_deploy.weights.records import TensorRecord

_START_AFRESH = "give another --output, or delete the file to start afresh"
_KEYS = {"recipe", "step", "seconds", "model", "average", "optimizer"}


@dataclass(frozen=True)
class Progress:
    """Progress of a training: steps done, and seconds spent on them."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Training:
    """The parts that change while training: the model, its moving average, and the optimizer's moments."""

    model: nn.Module
    average: nn.Module
    optimizer: Optimizer


def save_state(path: Path, recipe: dict[str, Any], progress: Progress, training: Training) -> None:
    """Write the state; a kill or a power cut at any moment leaves either the old file or the new one."""
    content = {
        "recipe": recipe,
        "step": progress.step,
        "seconds": progress.seconds,
        "model": training.model.state_dict(),
        "average": training.average.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _with_tensors(parsed: Parsed, value: Any) -> Any:
    """Return a value of a parsed file with tensors for their records."""
    if isinstance(value, dict):
        return {key: _with_tensors(parsed, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(parsed, inner) for inner in value)
    return parsed.tensor("a tensor", value) if isinstance(value, TensorRecord) else value


def load_state(path: Path, recipe: dict[str, Any], training: Training) -> Progress:
    """Bring a training to where its state was saved.

    Args:
        path: the file.
        recipe: the fingerprint that the state must bear.
        training: of the same recipe; its parts are changed in place.

    Raises:
        CheckpointError: the file is damaged, or no training's state.
        RequestError: the state is of a training with other settings.
    """
    try:
        parsed = parse(read(path))
        content = _with_tensors(parsed, parsed.content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", _START_AFRESH) from error
    if not isinstance(content, dict) or content.keys() != _KEYS or not isinstance(content["recipe"], dict):
        raise CheckpointError(f"{path} is not a training's state", _START_AFRESH)
    found = content["recipe"]
    differing = [name for name in recipe.keys() | found.keys() if recipe.get(name) != found.get(name)]
    if differing:
        told = "; ".join(
            f"{name} was {clipped(str(found.get(name)))}, is {clipped(str(recipe.get(name)))}"
            for name in sorted(map(str, differing))
        )
        raise RequestError(f"{path} is of another training: {told}", _START_AFRESH)
    try:
        training.model.load_state_dict(content["model"])
        training.average.load_state_dict(content["average"])
        training.optimizer.load_state_dict(content["optimizer"])
        return Progress(int(content["step"]), float(content["seconds"]))
    except Exception as error:  # what torch raises of parts that do not fit is of nearly any kind
        raise CheckpointError(f"{path} does not fit its recipe: {clipped(str(error))}", _START_AFRESH) from error
