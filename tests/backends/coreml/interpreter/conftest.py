"""A good Core ML package for the interpreter's tests; tests get copies."""

import shutil
from pathlib import Path

import pytest

from tests.backends.coreml.interpreter.coreml_programs import build_good


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return build_good(tmp_path_factory.mktemp("package") / "good.mlpackage")


@pytest.fixture
def package(original: Path, tmp_path: Path) -> Path:
    """A copy of the good package, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "copy.mlpackage"))
