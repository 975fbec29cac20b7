"""Known wrong results of accelerators are found in real converted programs, and only there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cloformer_deploy.backends.coreai import api, process
from cloformer_deploy.backends.coreai.lints import LINTS, lints, section

pytestmark = pytest.mark.integration


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(8, 8).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.function is not _hardswish else _hardswish(x.half() @ self.linear.weight.T)


def _hardswish(x: Tensor) -> Tensor:
    return nn.functional.hardswish(x).float()


def _top_k(x: Tensor) -> Tensor:
    return torch.gather(x.half(), 1, x.half().topk(3, dim=1).indices).float()


def _blocks(x: Tensor) -> Tensor:
    integers = torch.arange(64, dtype=torch.int8).reshape(8, 8) - 32
    scales = torch.full((8, 2), 0.5)
    found: Tensor = x @ api.operator("constexpr_blockwise_shift_scale")(integers, scales).T
    return found


def _channels(x: Tensor) -> Tensor:
    integers = torch.arange(64, dtype=torch.int8).reshape(8, 8) - 32
    found: Tensor = x @ api.operator("constexpr_blockwise_shift_scale")(integers, torch.full((8, 1), 0.5)).T
    return found


@pytest.mark.parametrize(
    ("function", "thread"),
    [
        (lambda x: x.argmax(1).int(), "apple/coreai-torch 116"),
        (_top_k, "apple/coreai-torch 115"),
        (_hardswish, "apple/coreai-torch 51"),
        (_blocks, "apple/coreai-models 279"),
        (_channels, None),
        (lambda x: nn.functional.hardswish(x.reshape(1, 2, 2, 4)), None),
        (lambda x: x.topk(3, dim=1).values, None),
    ],
)
def test_a_pattern_and_its_thread(function: Callable[[Tensor], Tensor], thread: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.aimodel"
    api.convert(Applied(function).eval(), (torch.zeros(2, 8),), (["image"], ["y"]), path, "a pattern")
    found = list(lints(process.read(path)))
    assert [text.rpartition("(")[2].rstrip(")") for text in found] == ([thread] if thread else [])
    assert len(section(process.read(path)).findings) == len(found)


def test_every_lint_names_its_thread() -> None:
    assert len(LINTS) == 4
    assert all("(apple/" in text for text in LINTS)
