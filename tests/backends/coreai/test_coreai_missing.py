"""Without Core AI's packages everything else works, and the extra is named."""

from pathlib import Path

import pytest

from cloformer_deploy.backends.registry import BACKENDS, DEFAULT_FORMATS, runtime_for
from cloformer_deploy.errors import MissingPartError
from tests.cli.command_line import hide, invoke, parsed


@pytest.fixture(autouse=True)
def _hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "coreai", "coreai_torch", "coreai-core", "coreai-torch")


def test_export_ends_with_3_and_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = invoke("export", "--format", "coreai", "--output", "out")
    assert shown.code == 3
    assert "coreai, coreai_torch are not installed (its packages exist for Linux on x86-64" in shown.said
    assert "pip install 'cloformer-deploy[coreai]'" in shown.said
    assert not Path("out").exists()


def test_files_are_not_executed(tmp_path: Path) -> None:
    (tmp_path / "a.aimodel").mkdir()
    for call in (BACKENDS["coreai"].describe, BACKENDS["coreai"].open_tensors, runtime_for("coreai").open):
        with pytest.raises(MissingPartError) as caught:
            call(tmp_path / "a.aimodel")
        assert caught.value.hint == "pip install 'cloformer-deploy[coreai]'"


def test_doctor_tells() -> None:
    answer = parsed(invoke("doctor", "--json").stdout)
    extras = {part["name"]: part for part in answer["extras"]}
    assert not extras["coreai"]["ready"]
    assert all(extras[name]["ready"] for name in DEFAULT_FORMATS)
    runtimes = {part["name"]: part for part in answer["runtimes"]}
    assert not runtimes["Apple's Core AI interpreter"]["ready"]
    assert "macOS 27" in runtimes["Core AI"]["detail"]


def test_all_formats_are_those_without_it() -> None:
    assert DEFAULT_FORMATS == ("onnx", "coreml", "tflite")
    assert set(BACKENDS) == {*DEFAULT_FORMATS, "coreai"}
