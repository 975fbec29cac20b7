"""`prepare`: rewrite a network of one's own for a target, in place and proven equal, before any exporter takes it."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cloformer_deploy.backends.registry import BACKENDS, default_target, target_of
from cloformer_deploy.backends.target import Target
from cloformer_deploy.errors import RequestError, UnsupportedModelError
from cloformer_deploy.networks.cloformer.attention import CloAttention
from cloformer_deploy.networks.cloformer.finding import ratio_db
from cloformer_deploy.networks.program.preparation import (
    TITLES,
    LeftAlone,
    Replaced,
    carry_attributes,
    replace_clo_modules,
)
from cloformer_deploy.networks.program.rewrites import REWRITES, fold, pairs
from cloformer_deploy.networks.program.tracing import check_example, run, traced
from cloformer_deploy.networks.program.tree import tree_of

LEAST_DB = 100.0
"""Signal-to-noise ratio that every output must keep in float32. Sums in another order leave 120 to 140 dB."""


@dataclass(frozen=True)
class Report:
    """The changes that `prepare` made.

    Attributes:
        target: that the network was prepared for, as `FORMAT for TARGET`.
        changed: whether the network was changed; if not, it is as it was.
        reason: why it was not changed; empty where it was.
        replaced: modules in whose place ours stand.
        left_alone: modules that look like Clo modules and are none, each with the reason.
        rewrites: names of the rewrites that changed something; `docs/lowering.md` has the gain of each.
        skipped: rewrites that could not be looked for, each with the reason.
        max_abs_diff: largest difference of any output value on the example, float32; None where it was not measured.
        sqnr_db: lowest signal-to-noise ratio of any output, dB; infinite where all are equal.
    """

    target: str
    changed: bool
    reason: str
    replaced: tuple[Replaced, ...]
    left_alone: tuple[LeftAlone, ...]
    rewrites: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    max_abs_diff: float | None = None
    sqnr_db: float | None = None

    def __str__(self) -> str:
        """Return the report as lines of text."""
        lines = [f"prepared {self.target}" if self.changed else f"not changed: {self.reason}"]
        lines += [f"  {item.path}: {TITLES[item.kind]} ({item.class_name}), {item.now}" for item in self.replaced]
        lines += [
            f"  {item.path or 'the model'} ({item.class_name}) left alone: {item.reason}" for item in self.left_alone
        ]
        if self.rewrites:
            lines.append(f"  rewrites: {', '.join(self.rewrites)}")
        lines += [f"  skipped: {item}" for item in self.skipped]
        if self.max_abs_diff is not None and self.sqnr_db is not None:
            lines.append(f"  largest difference on the example {self.max_abs_diff:.1e}, SQNR {self.sqnr_db:.0f} dB")
        return "\n".join(lines)


def prepare(model: nn.Module, target: str, example: Tensor) -> Report:
    """Swap in our Clo modules and apply the rewrites of a target, in place, in evaluation mode.

    Modules are found by structure, whatever their class is called, and are proven equal in float64 each; then the whole
    network is compared on the example in float32. If it differs, it is left as it was.

    Args:
        model: any network, float32 on the CPU; its forward takes one image batch.
        target: a format (`onnx`, `coreml`, `tflite`: its default target) or a target of one (`ane`, `hexagon`,
            `ethos-u`).
        example: an image batch (B, C, H, W), float32, that reaches every part of the network; best a real image.

    Raises:
        RequestError: there is no such target.
        UnsupportedModelError: the network does not take the example, or takes more.
    """
    format_name, wanted = _target(target)
    example = check_example(model, example)
    trial = copy.deepcopy(model).eval()
    expected = run(trial, example)
    found = replace_clo_modules(trial, example)
    applied, skipped = _rewritten(trial, wanted, example)
    now = dict(trial.named_modules())
    for path, module in model.named_modules():
        if path in now:
            carry_attributes(module, now[path])
    report = Report(
        target=f"{format_name} for {wanted.name}",
        changed=False,
        reason="",
        replaced=tuple(found.replaced),
        left_alone=tuple(found.left_alone),
        rewrites=tuple(applied),
        skipped=tuple(skipped),
    )
    if not found.replaced and not applied:
        return _changed(report, reason="there is nothing in it that this target wants otherwise")
    largest, ratio = _differences(expected, run(trial, example))
    report = _changed(report, max_abs_diff=largest, sqnr_db=ratio)
    if not ratio >= LEAST_DB:
        return _changed(
            report, reason=f"the rewritten network differs: SQNR {ratio:.0f} dB, the least is {LEAST_DB:.0f}"
        )
    vars(model).update(vars(trial))
    return _changed(report, changed=True)


def _changed(report: Report, **values: Any) -> Report:
    return Report(**(vars(report) | values))


def _target(name: str) -> tuple[str, Target]:
    if name in BACKENDS:
        return name, target_of(name, default_target(name))
    found = [(item.name, item.targets[name]) for item in BACKENDS.values() if name in item.targets]
    if len({target.rewrites for _, target in found}) != 1:  # Core ML and Core AI want the same of `ane`
        known = [target for item in BACKENDS.values() for target in item.targets if target != "cpu"]
        raise RequestError(
            f"there is no target {name!r} of one format", f"choose from {', '.join([*BACKENDS, *known])}"
        )
    return found[0]


def _rewritten(model: nn.Module, target: Target, example: Tensor) -> tuple[list[str], list[str]]:
    """Apply a target's rewrites in place; return those that changed something, and those that were skipped."""
    applied, skipped = [], []
    for name in target.rewrites:
        if name not in REWRITES:
            continue
        before = _outline(model)
        if name == "fold_batch_norm":
            try:
                fold(model, pairs(tree_of(traced(model, example, any_batch=False))), kept=True)
            except UnsupportedModelError as error:
                skipped.append(f"{name}: {error.message}")
        else:
            REWRITES[name](model)
        if _outline(model) != before:
            applied.append(name)
    return applied, skipped


def _outline(model: nn.Module) -> tuple[str, list[float]]:
    """Return what rewrites change: the modules, and the scales of attentions."""
    return repr(model), [module.scale for module in model.modules() if isinstance(module, CloAttention)]


def _differences(expected: Any, found: Any) -> tuple[float, float]:
    """Return the largest difference of any value, and the lowest SQNR of any output, dB."""
    pairs_of = [
        (ours, theirs)
        for theirs, ours in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True)
        if isinstance(theirs, Tensor) and theirs.is_floating_point()
    ]
    if not pairs_of:
        return math.inf, -math.inf
    largest = max(float((ours - theirs).abs().max()) for ours, theirs in pairs_of)
    ratios = [math.inf if torch.equal(ours, theirs) else ratio_db(theirs, ours) for ours, theirs in pairs_of]
    return largest, min(ratios)
