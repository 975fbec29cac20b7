"""An export says where no compiler of an NPU was asked."""

from typing import Any, cast

import pytest

from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.exporting.checks import _npu_checks
from cloformer_deploy.progress import Silent
from cloformer_deploy.report.placement import npu_line
from tests.cli.command_line import hide


class Kept(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        (ArtifactKey("tflite", "int8", "ethos-u"), "ethosu", "ethos-u"),
        (ArtifactKey("onnx", "w8a16", "hexagon"), "onnxruntime_qnn", "hexagon"),
    ],
)
def test_without_the_extra_a_file_is_unverified(
    kind: ArtifactKey, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, module)
    kept = Kept()
    assert _npu_checks(cast(Any, None), kind, kept) == ()
    (warning,) = kept.warnings
    assert warning.startswith(f"{kind.format} {kind.precision} {kind.target} is unverified")
    assert f"cloformer-deploy[{extra}]" in warning
    assert list(npu_line("a.onnx", ())) == [
        "a.onnx: unverified: no compiler of its NPU was asked when it was exported."
    ]


@pytest.mark.parametrize(
    "kind", [ArtifactKey("tflite", "int8", "cpu"), ArtifactKey("onnx", "fp32", "hexagon")], ids=["cpu", "float"]
)
def test_files_that_no_npu_runs_are_not_asked_about(kind: ArtifactKey) -> None:
    kept = Kept()
    assert _npu_checks(cast(Any, None), kind, kept) is None
    assert list(npu_line("a.onnx", None)) == kept.warnings == []
