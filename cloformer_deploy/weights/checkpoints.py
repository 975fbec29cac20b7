"""Checkpoints: weights files that are checked and identified as the weights of a network.

The content of a file is neither executed (see `weights.files`) nor trusted: type, layout and size of each tensor are
checked before memory is allocated for it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import NETWORKS, all_variants
from cloformer_deploy.networks.base import Configuration, Identity, Network
from cloformer_deploy.system.files import naming, replaced
from cloformer_deploy.system.text import clipped, listed
from cloformer_deploy.weights.files import COPY_AGAIN, GIVE_WEIGHTS, SAVE_AGAIN, parse, read, safetensors_bytes

WRAPPER_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts store the state dict; averaged (EMA) weights come first, as in timm."""

_PREFIX = "module."
_COUNTER = ".num_batches_tracked"
_WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Checkpoint:
    """The complete weights of a network.

    Attributes:
        name: name of the file, without its suffix.
        sha256: SHA-256 digest of the file.
        variant: name of the network's configuration.
        num_classes: number of classes, which is the number of rows of the head.
        labels: name of each class, in the order of the head's rows; None if the file has no labels.
        network: network family, a key of `networks.NETWORKS`.
        task: task of the head, a key of `tasks.TASKS`.
        architecture: the configuration under its published keys, as JSON values.
        assumed: sentences on what the file does not say of the configuration.
        state_dict: all entries of the network's state dict, in its order; float32 (counters: int64), contiguous and
            finite.

    Raises:
        CheckpointError: the number of labels differs from the number of classes, or a label occurs twice.
    """

    name: str
    sha256: str
    variant: str
    num_classes: int
    labels: tuple[str, ...] | None = None
    network: str = "cloformer"
    task: str = "classification"
    architecture: Mapping[str, Any] = field(kw_only=True)
    assumed: tuple[str, ...] = ()
    state_dict: dict[str, Tensor] = field(repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise CheckpointError(
                f"the number of labels ({len(self.labels)}) differs from the number of classes ({self.num_classes})",
                "give one label per class, in the order of the head's rows",
            )
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise CheckpointError(f"the label {twice!r} occurs twice", "make the labels unique")


def load_checkpoint(
    path: Path, variant: str | None = None, architecture: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Read a weights file: PyTorch (zip or legacy format) or safetensors; the content tells the format.

    The state dict may be at the top of the file, or under one of `WRAPPER_KEYS`, of which the first one present is
    used. Its keys may all have the prefix `module.`. Weights are converted to float32. Counters
    (`num_batches_tracked`), which inference does not use, may be missing.

    Args:
        path: the file.
        variant: the expected variant; None accepts every variant.
        architecture: the configuration, under its published keys; None takes what the file says.

    Raises:
        CheckpointError: the file cannot be read, or does not contain the weights of a known network (or of the expected
            variant or architecture).
    """
    if variant is not None and variant not in all_variants():
        raise CheckpointError(f"there is no variant {variant!r}", f"choose one of {', '.join(all_variants())}")
    with naming(path):
        data = read(path)
        parsed = parse(data)
        tensors = {name: _usable(name, value, len(data)) for name, value in _state_dict(parsed.content).items()}
        network, found = _identify(tensors, variant, architecture or parsed.configuration)
        state_dict = {
            name: _converted(name, tensors[name]) if name in tensors else torch.zeros(shape, dtype=torch.int64)
            for name, shape in network.state_shapes(found.architecture).items()
        }
        digest = hashlib.sha256(data).hexdigest()
        return Checkpoint(
            path.stem,
            digest,
            found.variant,
            found.num_classes,
            parsed.labels,
            network.name,
            parsed.task or found.task,
            architecture=found.architecture,
            assumed=found.assumed,
            state_dict=state_dict,
        )


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """Return the network with a copy of the checkpoint's weights, in evaluation mode, on the CPU."""
    copy = {name: tensor.clone() for name, tensor in checkpoint.state_dict.items()}
    return _built(checkpoint.network, checkpoint.architecture, copy)


def build_from_copy(path: Path, network: str, architecture: Mapping[str, Any]) -> nn.Module:
    """Return the network with the weights of a file that `checkpoint_bytes` made, in evaluation mode, on the CPU.

    The file is not checked, so it must not come from anywhere else.

    Args:
        path: the file.
        network: `Checkpoint.network`.
        architecture: `Checkpoint.architecture`.
    """
    return _built(network, architecture, safetensors.torch.load_file(path))


def _built(network: str, architecture: Mapping[str, Any], state_dict: dict[str, Tensor]) -> nn.Module:
    # On the meta device nothing is initialized, which saves time and does not advance the random generator.
    with torch.device("meta"):
        model = NETWORKS[network].build(architecture)
    model.load_state_dict(state_dict, assign=True)
    return model.eval()


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as a safetensors file, with `task`, `labels` and `architecture` (JSON) in its metadata.

    An architecture of which something is assumed is left out, so that the file does not state it. Equal checkpoints
    give equal bytes.
    """
    metadata = {"format": "pt", "task": checkpoint.task}
    if not checkpoint.assumed:
        metadata |= {"variant": checkpoint.variant, "architecture": json.dumps(dict(checkpoint.architecture))}
    if checkpoint.labels is not None:
        metadata["labels"] = json.dumps(checkpoint.labels, ensure_ascii=False)
    return safetensors_bytes(checkpoint.state_dict, metadata)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write `checkpoint_bytes` to a file, which is replaced atomically.

    Returns:
        The SHA-256 digest of the file.

    Raises:
        OSError: the file cannot be written.
    """
    data = checkpoint_bytes(checkpoint)
    with replaced(path) as staged:
        staged.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _state_dict(content: Any) -> dict[str, Any]:
    """Return the state dict in the content of a file, without wrapper and prefix; its values are not checked."""
    # dict.items(x) and not x.items(): the restricted unpickler lets a file set attributes on an OrderedDict.
    if not isinstance(content, dict):
        raise CheckpointError(f"the file contains a {type(content).__name__}, not a dictionary of tensors", SAVE_AGAIN)
    entries = dict(dict.items(content))
    wrapped = next((entries[key] for key in WRAPPER_KEYS if isinstance(entries.get(key), dict)), None)
    state = entries if wrapped is None else dict(dict.items(wrapped))
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"the file contains no tensors at its top or under {', '.join(WRAPPER_KEYS)} (keys: {listed(state)})",
            SAVE_AGAIN,
        )
    if not all(isinstance(name, str) for name in state):
        raise CheckpointError("not all keys of the state dict are strings", SAVE_AGAIN)
    if all(name.startswith(_PREFIX) for name in state):
        return {name.removeprefix(_PREFIX): value for name, value in state.items()}
    return state


def _usable(name: str, value: Any, file_bytes: int) -> Tensor:
    """Return an entry of a state dict as a plain dense tensor, after checking that it can be converted.

    Args:
        name: of the entry.
        value: of the entry, of any type.
        file_bytes: size of the file, which no tensor may exceed.

    Raises:
        CheckpointError: the entry is no dense tensor of a supported dtype, or is larger than the file.
    """
    what = f"{clipped(name)} is"
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{what} of type {type(value).__name__}, not a tensor", SAVE_AGAIN)
    # The method is called through the class, because a file can give its tensors attributes that hide their methods.
    tensor = Tensor.detach(value)
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        raise CheckpointError(f"{what} sparse, quantized, nested or without data, not a dense tensor", SAVE_AGAIN)
    counter = name.endswith(_COUNTER) and tensor.dtype == torch.int64
    if tensor.dtype not in _WEIGHT_DTYPES and not counter:
        raise CheckpointError(
            f"{what} {str(tensor.dtype).removeprefix('torch.')}, not float32, float16, bfloat16 or float64",
            "save the weights as float32",
        )
    # With a stride of 0 a single stored number can be a tensor of any size.
    if tensor.nbytes > file_bytes:
        raise CheckpointError(f"{what} a tensor of {tensor.nbytes} bytes in a file of {file_bytes} bytes", SAVE_AGAIN)
    return tensor


def _identify(
    tensors: dict[str, Tensor], variant: str | None, configuration: Configuration | None
) -> tuple[Network, Identity]:
    """Return the network that the tensors belong to, and its configuration.

    Raises:
        CheckpointError: the tensors belong to no known network, or are not complete.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for network in NETWORKS.values():
        found = network.identify(shapes, variant, configuration)
        if found is not None:
            return network, found
    titles = " or ".join(network.title for network in NETWORKS.values())
    raise CheckpointError(
        f"none of the {len(shapes)} tensors in the file belongs to {titles} ({listed(shapes)})", GIVE_WEIGHTS
    )


def _converted(name: str, tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor, float32 (counters: int64).

    Raises:
        CheckpointError: a value is NaN or infinite, or a variance is negative.
    """
    if name.endswith(_COUNTER):
        return tensor.clone() if tensor.dtype == torch.int64 else torch.zeros((), dtype=torch.int64)
    converted = tensor.to(torch.float32).clone(memory_format=torch.contiguous_format)
    bad = ~torch.isfinite(converted)
    if bad.any():
        nan = int(torch.isnan(converted).sum())
        infinite = int(bad.sum()) - nan
        raise CheckpointError(
            f"{name} has {nan} NaN and {infinite} infinite values (as float32) of {converted.numel()}",
            "pass a checkpoint that was saved before the training diverged",
        )
    if name.endswith("running_var") and (converted < 0).any():
        raise CheckpointError(
            f"{name} has {int((converted < 0).sum())} negative values, which become NaN in inference", COPY_AGAIN
        )
    return converted
