"""Installed packages and the data files of this one."""

import importlib
import sys
from pathlib import Path

import pytest

from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.system import packages
from cloformer_deploy.system.packages import hidden, installed_version, require, shipped_folder


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    require("json", "numpy", extra="onnx")
    with pytest.raises(MissingPartError, match=r"^the Python package no_such_one is not installed$") as caught:
        require("json", "no_such_one", extra="onnx")
    assert caught.value.hint == "pip install 'cloformer-deploy[onnx]'"
    with pytest.raises(MissingPartError, match=r"^the Python packages no_such_one, nor_this are not installed$"):
        require("no_such_one", "nor_this", extra="onnx")


def test_versions() -> None:
    assert installed_version("numpy")
    assert installed_version("no-such-package") is None


def test_hidden_modules_cannot_be_imported_until_later_and_known_ones_stay() -> None:
    assert "this" not in sys.modules
    with hidden("this", "json"):
        assert importlib.import_module("json").dumps(1) == "1"
        with pytest.raises(ImportError):
            importlib.import_module("this")
        with pytest.raises(MissingPartError):
            require("this", extra="onnx")
    assert "this" not in sys.modules
    require("this", extra="onnx")


def test_data_files_in_the_package_come_before_those_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "cloformer_deploy" / "system" / "packages.py"))
    assert shipped_folder("models") == tmp_path / "models"
    (tmp_path / "cloformer_deploy" / "models").mkdir(parents=True)
    assert shipped_folder("models") == tmp_path / "cloformer_deploy" / "models"
