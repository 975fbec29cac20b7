"""Checkpoints: weights files that are checked and identified as the weights of a network.

The content of a file is neither executed (see `weights.files`) nor trusted: type, layout and size of each tensor are
checked before memory is allocated for it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import NETWORKS, all_variants
from cloformer_deploy.networks.base import Network
from cloformer_deploy.networks.program.network import CUSTOM, PROGRAM, SUFFIX, ProgramNetwork
from cloformer_deploy.networks.program.tasks import class_count
from cloformer_deploy.networks.program.tree import image_shape, output_shapes
from cloformer_deploy.system.files import naming, replaced
from cloformer_deploy.system.text import clipped, listed, visible
from cloformer_deploy.weights import programs
from cloformer_deploy.weights.files import Parsed, read, safetensors_bytes
from cloformer_deploy.weights.finding import Found, configurations, outline, state_dicts, tensor_names
from cloformer_deploy.weights.program_graphs import AGAIN
from cloformer_deploy.weights.sources import open_source
from cloformer_deploy.weights.tensors import converted, usable_shape
from cloformer_deploy.weights.torch_files import GIVE_WEIGHTS, SAVE_AGAIN


@dataclass(frozen=True)
class Program:
    """A network of one's own.

    Attributes:
        data: archive that `programs.checked` gave.
        size: height and width of its image.
        mean, std: normalization of the image, one value a channel; None where the file does not say it.
    """

    data: bytes
    size: tuple[int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


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
        channels: of the input image, 1 to 4.
        architecture: the configuration under its published keys, as JSON values.
        assumed: sentences on what the file does not say of the configuration.
        trained_labels: labels of the file, also where the head is left out.
        notes: sentences on where in the file the weights were found, and on what was left out.
        state_dict: all entries of the network's state dict, in its order; float32 (counters: int64), contiguous and
            finite. Empty where there is a program.
        program: the graph and the weights of a network of one's own; None of a known family.

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
    channels: int = 3
    architecture: Mapping[str, Any] = field(kw_only=True)
    assumed: tuple[str, ...] = ()
    trained_labels: tuple[str, ...] | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    state_dict: dict[str, Tensor] = field(repr=False, compare=False, kw_only=True)
    program: Program | None = field(default=None, repr=False, compare=False, kw_only=True)

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
    path: Path, variant: str | None = None, architecture: Mapping[str, Any] | None = None, *, headless: bool = False
) -> Checkpoint:
    """Read weights: a PyTorch file (zip or legacy format), safetensors, or a folder or index of such files.

    The state dict may lie anywhere in the file, under any prefix, and may be that of a whole saved module (see
    `weights.finding`). Weights are converted to float32. Counters (`num_batches_tracked`), which inference does not
    use, may be missing.

    Args:
        path: the file or folder.
        variant: the expected variant; None accepts every variant.
        architecture: the configuration, under its published keys; None takes what the file says.
        headless: leave the head out, for a feature extractor.

    Raises:
        CheckpointError: the file cannot be read, or does not contain the weights of a known network (or of the expected
            variant or architecture).
    """
    if variant is not None and variant not in all_variants():
        raise CheckpointError(f"there is no variant {variant!r}", f"choose one of {', '.join(all_variants())}")
    with naming(path):
        if path.suffix == SUFFIX:
            return _of_program(path, variant, headless=headless)
        opened = open_source(path)
        parsed = opened.parsed
        network, source = _source(parsed)
        names = network.own_names(source.entries)
        values = {own: source.entries[name] for name, own in names.items()}
        shapes = {name: usable_shape(name, value, opened.bytes) for name, value in values.items()}
        said = architecture or parsed.configuration or _said(network, parsed, source)
        found = network.identify(shapes, variant, said, headless=headless)
        if found is None:
            raise AssertionError(f"a state dict with one of {network.landmarks} is identified or refused")
        state_dict = {
            name: converted(name, parsed.tensor(name, values[name]))
            if name in values
            else torch.zeros(shape, dtype=torch.int64)
            for name, shape in network.state_shapes(found.architecture).items()
        }
        return Checkpoint(
            visible(path.stem),
            opened.sha256,
            found.variant,
            found.num_classes,
            parsed.labels if found.num_classes else None,
            network.name,
            (parsed.task if found.num_classes else None) or found.task,
            found.channels,
            architecture=found.architecture,
            assumed=found.assumed,
            trained_labels=parsed.labels,
            notes=(*source.notes, *found.notes),
            state_dict=state_dict,
        )


def _of_program(path: Path, variant: str | None, *, headless: bool) -> Checkpoint:
    """Read a program of `torch.export`, whose file says nothing that has to be believed: it is checked throughout."""
    original = read(path)
    data = programs.checked(original)
    program, said = programs.loaded(data), programs.about(data)
    if variant not in (None, CUSTOM) or headless:
        raise CheckpointError("this is a program, which has no variants and no head", "leave both options out")
    try:
        channels, height, width = image_shape(program)
        shapes = output_shapes(program)
        if said is None:
            names = ("output",) if len(shapes) == 1 else tuple(f"output_{index}" for index in range(len(shapes)))
            said = programs.About(outputs=names)
        if len(said.outputs) != len(shapes):
            raise ValueError(f"it has {len(shapes)} outputs and {len(said.outputs)} names")
        interface = tuple((name, len(shape)) for name, shape in zip(said.outputs, shapes, strict=True))
        classes = class_count(said.task, said.outputs, shapes)
        data = programs.functional(data, said)
        architecture = {"in_chans": channels, "num_classes": classes, "outputs": interface}
        NETWORKS[PROGRAM].check(CUSTOM, architecture)
        for name, tensor in program.state_dict.items():
            if tensor.is_floating_point():
                usable_shape(name, tensor, len(data))
                converted(name, tensor)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the program cannot be used: {error}", AGAIN) from error
    return Checkpoint(
        visible(path.stem),
        hashlib.sha256(original).hexdigest(),
        CUSTOM,
        classes,
        said.labels,
        PROGRAM,
        said.task,
        channels,
        architecture=architecture,
        trained_labels=said.labels,
        state_dict={},
        program=Program(data, (height, width), said.mean, said.std),
    )


def _model_of(data: bytes) -> nn.Module:
    return ProgramNetwork().model_of(programs.loaded(programs.checked(data)))


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """Return the network with a copy of the checkpoint's weights, in evaluation mode, on the CPU."""
    if checkpoint.program is not None:
        return _model_of(checkpoint.program.data)
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
    if network == PROGRAM:
        return _model_of(path.read_bytes())
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
    give equal bytes. A program is returned as it is.
    """
    if checkpoint.program is not None:
        return checkpoint.program.data
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


def _source(parsed: Parsed) -> tuple[Network, Found]:
    """Return the network that has a state dict in the file, and the state dict to use.

    Raises:
        CheckpointError: there is none.
    """
    for network in NETWORKS.values():
        found = state_dicts(parsed.content, network.landmarks)
        if found:
            others = [f"{item.place or 'the top'}" for item in found[1:]]
            notes = (f"other weights of the same kind are not used: {listed(others)}",) if others else ()
            return network, replace(found[0], notes=(*found[0].notes, *notes))
    names = tensor_names(parsed.content)
    titles = " or ".join(network.title for network in NETWORKS.values())
    if not names:
        raise CheckpointError(f"the file contains no tensors: it is {clipped(outline(parsed.content))}", SAVE_AGAIN)
    raise CheckpointError(
        f"none of the {len(names)} tensors in the file belongs to {titles} ({listed(names)})", GIVE_WEIGHTS
    )


def _said(network: Network, parsed: Parsed, source: Found) -> Mapping[str, Any] | None:
    """Return the configuration that the file's objects, or the attributes of a saved module, say."""
    return network.said(configurations(parsed.content, network.configuration_keys), source.modules) or None
