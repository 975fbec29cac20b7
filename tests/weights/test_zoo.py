"""The bundled weights: names, defaults and errors, and that torch is not imported to find them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system import packages
from cloformer_deploy.weights import zoo as model_zoo
from cloformer_deploy.weights.checkpoints import load_checkpoint
from cloformer_deploy.weights.zoo import DEFAULT, bundled_checkpoints, resolve_weights

ROOT = Path(__file__).resolve().parents[2]


def test_default() -> None:
    assert resolve_weights() == bundled_checkpoints()[DEFAULT]
    assert resolve_weights(DEFAULT) == bundled_checkpoints()[DEFAULT]
    assert resolve_weights(variant="xxs") == bundled_checkpoints()[DEFAULT]


@pytest.mark.parametrize("name", sorted(bundled_checkpoints()))
def test_each_bundled_checkpoint_is_as_its_name_and_card_say(name: str) -> None:
    path = bundled_checkpoints()[name]
    checkpoint = load_checkpoint(path)
    assert checkpoint.name == name
    assert name.startswith(f"{checkpoint.variant}-")
    assert checkpoint.labels is not None
    card = path.with_suffix(".md").read_text()
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.sha256 in card
    assert f"{path.stat().st_size:,} bytes" in card


def test_file_is_taken_as_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.touch()
    assert resolve_weights(str(path)) == path


def test_bundled_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / DEFAULT).mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_weights(DEFAULT) == bundled_checkpoints()[DEFAULT]
    assert resolve_weights(f"./{DEFAULT}") == Path(DEFAULT)


@pytest.mark.parametrize("name", ["xxs-imagenet", "no/such/file.pth", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_weights(name)
    assert repr(name) in caught.value.message
    assert DEFAULT in caught.value.hint


def test_variant_without_bundled_weights() -> None:
    with pytest.raises(CheckpointError, match="no weights for variant 's' are bundled") as caught:
        resolve_weights(variant="s")
    assert "--weights FILE" in caught.value.hint


def test_unknown_variant() -> None:
    with pytest.raises(CheckpointError, match="there is no variant 'x'") as caught:
        resolve_weights(variant="x")
    assert "xxs, xs, s" in caught.value.hint


def test_nothing_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_zoo, "shipped_folder", lambda _: tmp_path)
    with pytest.raises(CheckpointError, match=rf"no weights named '{DEFAULT}' are bundled \(bundled: none\)"):
        resolve_weights()


def test_packaged_models_come_before_those_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "cloformer_deploy"
    (package / "models").mkdir(parents=True)
    (package / "models" / "xs-other.safetensors").touch()
    monkeypatch.setattr(packages, "__file__", str(package / "system" / "packages.py"))
    assert list(bundled_checkpoints()) == ["xs-other"]


def test_torch_is_not_imported() -> None:
    code = "import sys, cloformer_deploy.weights.zoo as zoo; zoo.resolve_weights(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
