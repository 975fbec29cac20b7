"""A valid Core ML package for the interpreter's tests."""

import shutil
from pathlib import Path

import pytest

from tests.backends.coreml.interpreter.coreml_programs import build_valid


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that `package` copies; tests must not change it."""
    return build_valid(tmp_path_factory.mktemp("package") / "valid.mlpackage")


@pytest.fixture
def package(original: Path, tmp_path: Path) -> Path:
    """A copy of the valid package, which a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "copy.mlpackage"))
