"""Compare a file with PyTorch node by node: the error that each node of the traced model adds.

Each node computes from the file's own tensors, and its result is then replaced by the file's. A difference is thus the
error that this node alone adds; earlier errors are on both sides.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from cloformer_deploy.backends.base import Tensors
from cloformer_deploy.blame.alignment import Match, is_measured
from cloformer_deploy.tasks.distances import sqnr_db


@dataclass
class NodeError:
    """Running sums over images, of one node.

    Attributes:
        signal: energy of what the node computes from the file's tensors.
        noise: energy of the error that the node adds.
        exact: energy of the tensor in the float model.
        drift: energy of its difference to the file's: of all errors so far.
        non_finite: NaN or infinity came out, although every input was finite.
    """

    signal: float = 0.0
    noise: float = 0.0
    exact: float = 0.0
    drift: float = 0.0
    non_finite: bool = False

    @property
    def sqnr_db(self) -> float:
        """SQNR of this node alone, dB."""
        return sqnr_db(self.signal, float("inf") if self.non_finite else self.noise)

    @property
    def cumulative_db(self) -> float:
        """SQNR of all nodes up to it, dB."""
        return sqnr_db(self.exact, self.drift)


Errors = dict[str, NodeError]
"""Errors by node name, in the order of the model."""


class Walk(fx.Interpreter):
    """Runs the traced model with the tensors of one file, batch by batch.

    Args:
        module: the traced model.
        matches: the file's tensor of each node, where it is known.
    """

    def __init__(self, module: fx.GraphModule, matches: Mapping[str, Match]) -> None:
        super().__init__(module)
        self._matches = matches
        self._tensors: Tensors = {}
        self._floats: Mapping[fx.Node, Any] = {}
        self._added: dict[str, Tensor] = {}
        self.errors: Errors = {}

    def step(self, floats: Mapping[fx.Node, Any], tensors: Tensors) -> dict[str, Tensor]:
        """Run one batch, and return the error that each node adds.

        Args:
            floats: what the float model computes (see `float_values`).
            tensors: what the file computes from the same images.
        """
        self._floats, self._tensors, self._added = floats, tensors, {}
        with torch.inference_mode():
            self.run(*_inputs(floats))
        return self._added

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter.run_node`."""
        value = super().run_node(n)
        if n.name not in self._matches or not is_measured(n, value):
            return value
        found = self._matches[n.name].read(self._tensors, value.shape)
        if found is None:
            return value
        self._note(n, value, found)
        return found

    def _note(self, n: fx.Node, value: Tensor, found: Tensor) -> None:
        error = self.errors.setdefault(n.name, NodeError())
        exact = self._floats[n]
        error.exact += _energy(exact)
        error.drift += _energy(found - exact)
        if not bool(torch.isfinite(value).all()):
            return  # an earlier node gave NaN or infinity
        if not bool(torch.isfinite(found).all()):
            error.non_finite = True
            return
        self._added[n.name] = found - value
        error.signal += _energy(value)
        error.noise += _energy(self._added[n.name])


class _Values(fx.Interpreter):
    """Keeps the value of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)


def float_values(module: fx.GraphModule, images: Tensor) -> dict[fx.Node, Any]:
    """Return the value of each node of a traced model for normalized images (B, 3, H, W)."""
    runner = _Values(module)
    with torch.inference_mode():
        runner.run(images)
    return runner.env


class Injection(fx.Interpreter):
    """Runs the float model with the errors of some nodes added where they arise; only what that moves is computed."""

    def __init__(self, module: fx.GraphModule, nodes: Iterable[str]) -> None:
        super().__init__(module)
        self._wanted = frozenset(nodes)
        self._moved = _downstream(module, self._wanted)

    def outputs(self, floats: Mapping[fx.Node, Any], errors: Mapping[str, Tensor]) -> Any:
        """Return the disturbed outputs.

        Args:
            floats: what the model computes undisturbed, by node.
            errors: error to add, by node name.
        """
        self._errors = errors
        held = {node: value for node, value in floats.items() if node not in self._moved}
        with torch.inference_mode():
            return self.run(*_inputs(floats), initial_env=held)

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter.run_node`."""
        value = super().run_node(n)
        return value + self._errors[n.name] if n.name in self._wanted and n.name in self._errors else value


def _downstream(module: fx.GraphModule, names: frozenset[str]) -> set[fx.Node]:
    """Return the nodes of these names, and all that depend on them."""
    moved: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.name in names or node.op == "output" or any(item in moved for item in node.all_input_nodes):
            moved.add(node)
    return moved


def outputs_of(floats: Mapping[fx.Node, Any]) -> Any:
    """Return the float model's outputs: a tensor or a tuple of tensors."""
    (output,) = (node for node in floats if node.op == "output")
    return floats[output]


def _inputs(floats: Mapping[fx.Node, Any]) -> list[Tensor]:
    return [value for node, value in floats.items() if node.op == "placeholder"]


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """Yield images in batches of one size; the last is filled up with its last image."""
    for part in torch.split(images, size):
        yield torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)]) if len(part) < size else part


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())
