"""Trace a network of somebody's own with `torch.export`, and say in plain words why one cannot be."""

import copy
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from cloformer_deploy.errors import UnsupportedModelError
from cloformer_deploy.networks.base import COLORS
from cloformer_deploy.system.text import clipped

ONE_IMAGE = "wrap it in a module whose forward takes one image batch (B, C, H, W) and returns tensors"


def check_example(model: nn.Module, example: Any) -> Tensor:
    """Return the example of a network of one input, which must be float32 and on the CPU, as its weights.

    Raises:
        UnsupportedModelError: it is no image batch, or the network takes several inputs or has other weights.
    """
    if isinstance(example, (tuple, list)) and len(example) == 1:
        (example,) = example
    if isinstance(example, (tuple, list, dict)):
        raise UnsupportedModelError(
            f"the example has {len(example)} inputs: several inputs are not supported", ONE_IMAGE
        )
    if not isinstance(example, Tensor) or example.dim() != 4 or not 1 <= example.shape[1] <= len(COLORS):
        told = list(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise UnsupportedModelError(f"the example ({told}) is no image batch of 1 to {len(COLORS)} channels", ONE_IMAGE)
    needed = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UnsupportedModelError(f"its forward takes several inputs: {', '.join(needed)}", ONE_IMAGE)
    for name, value in (("the example", example), *model.named_parameters(), *model.named_buffers()):
        if value.device.type != "cpu" or (value.is_floating_point() and value.dtype != torch.float32):
            raise UnsupportedModelError(
                f"{name} is {value.dtype} on {value.device}", "move both to the CPU as float32: model.float().cpu()"
            )
    if not example.is_floating_point():
        raise UnsupportedModelError(f"the example is {example.dtype}", "give it as float32")
    return example


def run(model: nn.Module, example: Tensor) -> Any:
    """Return what a network in evaluation mode returns for an example.

    Raises:
        UnsupportedModelError: it fails.
    """
    try:
        with torch.no_grad():
            return model(example.clone())
    except Exception as error:
        raise UnsupportedModelError(f"the model fails on the example: {_cause(error)}", ONE_IMAGE) from error


def named_tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an output, in order, each with a name: its key, else its number.

    Raises:
        UnsupportedModelError: something in it is no tensor of float32 with a batch axis.
    """
    if isinstance(value, Tensor):
        value = {"output": value}
    leaves, _ = pytree.tree_flatten_with_path(value)
    if not leaves:
        raise UnsupportedModelError("the model returns nothing", ONE_IMAGE)
    for path, leaf in leaves:
        name = "_".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
        name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
        name = f"output_{name}" if not name[:1].isalpha() else name
        if not isinstance(leaf, Tensor):
            raise UnsupportedModelError(f"its output {name} is of type {type(leaf).__name__}, not a tensor", ONE_IMAGE)
        if leaf.dtype != torch.float32 or not 2 <= leaf.dim() <= 4:
            told = f"{leaf.dtype} of {leaf.dim()} axes"
            raise UnsupportedModelError(f"its output {name} is {told}, not float32 of 2 to 4 axes", ONE_IMAGE)
        yield name, leaf


def traced(model: nn.Module, example: Tensor, *, any_batch: bool) -> ExportedProgram:
    """Return the functional program of a network in evaluation mode.

    Args:
        model: it is not changed.
        example: an image batch (B, C, H, W).
        any_batch: leave the batch size open.

    Raises:
        UnsupportedModelError: it cannot be traced: its control flow depends on the image, or its batch size is fixed.
    """
    dynamic = ({0: torch.export.Dim("batch")},) if any_batch else None
    given = torch.cat([example, example])[:2] if any_batch else example
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            program = torch.export.export(copy.deepcopy(model).eval(), (given.clone(),), dynamic_shapes=dynamic)
            functional: ExportedProgram = program.run_decompositions({})
            return functional
    except GuardOnDataDependentSymNode as error:
        raise UnsupportedModelError(
            f"its forward takes a way that depends on the values of the image: {_cause(error)}",
            "choose with tensor operators such as torch.where, so that the same operators run for every image",
        ) from error
    except Exception as error:  # torch raises many
        text = str(error)
        if any_batch and "batch" in text and ("onstant" in text or "pecializ" in text):
            raise UnsupportedModelError(
                f"it works for one batch size only: {_cause(error)}", "read the batch size off the input: x.shape[0]"
            ) from error
        raise UnsupportedModelError(f"torch.export cannot trace it: {_cause(error)}", ONE_IMAGE) from error


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return clipped(f"{type(error).__name__}: {lines[0] if lines else ''}")
