"""The rewrites that hold in any network, under the names that targets use; see `docs/lowering.md` for each.

Those of CloFormer apply to its blocks and attentions wherever they stand. What only a whole CloFormer allows (a smaller
residual stream) is left out.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cloformer_deploy.lowering.depthwise import split_large_depthwise_kernels
from cloformer_deploy.lowering.normalization import LONGEST_SUM, Form, replace_group_norms
from cloformer_deploy.lowering.shapes import sizes
from cloformer_deploy.networks.base import Rewrite
from cloformer_deploy.networks.cloformer.lowering import REWRITES as OF_CLOFORMER
from cloformer_deploy.networks.cloformer.lowering.affine import without_affine
from cloformer_deploy.networks.cloformer.lowering.normalization import SMALL_MAP
from cloformer_deploy.networks.program.tree import BATCH_NORM

_SHARED = (
    "fold_scales",
    "fold_group_norm_affine",
    "attend_keys_first",
    "attend_few_keys_first",
    "attend_in_blocks",
    "attend_head_by_head",
    "separate_branches",
    "group_hidden_channels",
)


class GroupedNorm(nn.Module):
    """GroupNorm of several groups in tensors of rank 4, without scale and shift; (B, C, H, W) to the same shape.

    Converters write GroupNorm with a fifth axis, which the Neural Engine has not.
    """

    def __init__(self, groups: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the mean of each sample and group, divide by the deviation."""
        shape = sizes(x)
        grouped = x.reshape(shape[0], self.groups, shape[1] // self.groups, -1)
        centered = grouped - _mean(grouped)
        return (centered * torch.rsqrt(_mean(centered * centered) + self.eps)).reshape(shape)


def _mean(grouped: Tensor) -> Tensor:
    return grouped.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)


def pairs(tree: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield each convolution of a traced network with the BatchNorm that alone reads its output, by their paths."""
    for path, module in tree.named_modules():
        if not isinstance(module, fx.GraphModule):
            continue
        calls: dict[str, int] = {}
        for node in module.graph.nodes:
            if node.op == "call_module":
                calls[str(node.target)] = calls.get(str(node.target), 0) + 1
        for node in module.graph.nodes:
            before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
            if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
                continue
            names = [str(before.target), str(node.target)]
            conv, norm = (module.get_submodule(name) for name in names)
            once = calls[names[0]] == calls[names[1]] == 1
            if isinstance(norm, fx.GraphModule) and _begins_with_batch_norm(norm):
                names[1], norm = f"{names[1]}.{BATCH_NORM}", norm.get_submodule(BATCH_NORM)
            if once and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                first, second = (f"{path}.{name}" if path else name for name in names)
                yield first, second


class FoldedBatchNorm(nn.BatchNorm2d):
    """A BatchNorm that was folded: it returns its input, and its numbers say the same to whatever folds it again.

    Exporters such as Ultralytics' look for the BatchNorm at its place, and fold it themselves.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps)
        self.running_var = torch.full((norm.num_features,), 1 - norm.eps)
        self.eval()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gave it
        """Return the input."""
        return input


def _begins_with_batch_norm(module: fx.GraphModule) -> bool:
    (given, *others) = [node for node in module.graph.nodes if node.op == "placeholder"]
    return not others and [(user.op, user.target) for user in given.users] == [("call_module", BATCH_NORM)]


def fold(model: nn.Module, found: Iterator[tuple[str, str]], *, kept: bool = False) -> None:
    """Fold BatchNorm into convolutions, in place; other modules at these paths are left alone.

    Args:
        model: in evaluation mode.
        found: paths of convolutions and of the BatchNorms behind them.
        kept: leave a `FoldedBatchNorm` behind, where an exporter may look for one; else nothing.
    """
    for first, second in list(found):
        modules = dict(model.named_modules(remove_duplicate=False))
        conv, norm = modules.get(first), modules.get(second)
        if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            model.set_submodule(first, fuse_conv_bn_eval(conv, norm))
            model.set_submodule(second, FoldedBatchNorm(norm) if kept else nn.Identity())


def fold_batch_norm(model: nn.Module) -> None:
    """Fold each BatchNorm of a traced network that follows a convolution, in place."""
    fold(model, pairs(model))


def _normalize(form: Form, longest_sum: int = LONGEST_SUM) -> Callable[[nn.Module], None]:
    def rewrite(model: nn.Module) -> None:
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.GroupNorm) and child.affine:
                    setattr(parent, name, without_affine(child))
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.GroupNorm) and child.num_groups > 1:
                    setattr(parent, name, GroupedNorm(child.num_groups, child.eps))
        replace_group_norms(model, form, longest_sum)

    return rewrite


_KNOWN: Mapping[str, Rewrite] = {
    "fold_batch_norm": fold_batch_norm,
    **{name: OF_CLOFORMER[name] for name in _SHARED},
    "split_large_depthwise_kernels": split_large_depthwise_kernels,
    "normalize_in_two_steps": _normalize("reciprocal_root"),
    "normalize_axis_by_axis": _normalize("reciprocal_root", SMALL_MAP),
    "normalize_in_float16": _normalize("float16"),
    "normalize_by_division": _normalize("division"),
}
REWRITES: Mapping[str, Rewrite] = {name: _KNOWN[name] for name in OF_CLOFORMER if name in _KNOWN}
"""Rewrites of a network in evaluation mode, in place, by the names that targets use, in the order of CloFormer's."""
