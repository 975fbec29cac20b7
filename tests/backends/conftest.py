"""Real exports, each made once a session."""

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cloformer_deploy.exporting.pipeline import Export, export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent

Exporter = Callable[[dict[str, Tensor], ExportRequest], Export]
OtherPython = Callable[[str], Path]


@pytest.fixture(scope="session")
def export_weights(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Export a state dict as a request says; the request's weights and output are filled in."""

    def run(state_dict: dict[str, Tensor], request: ExportRequest) -> Export:
        folder = tmp_path_factory.mktemp("export")
        weights = folder / "weights.pt"
        torch.save(state_dict, weights)
        return export(replace(request, weights=str(weights), output=folder / "bundle"), Silent())

    return run


@pytest.fixture(scope="session")
def other_python() -> OtherPython:
    """`other_python("tflite-runtime")`: the Python of the environment that holds a runtime (`make test` builds it).

    Its requirements are in `tests/requirements-*.txt`.
    """

    def find(name: str) -> Path:
        python = Path(__file__).resolve().parents[2] / f".venv-{name}" / "bin" / "python"
        if not python.exists():
            # Some wheels are Linux's; there, a continuous integration without them has failed to install them.
            if os.environ.get("CI") and platform.system() == "Linux":
                pytest.fail(f"the environment of {name} is missing, which `make test` builds")
            pytest.skip(f"needs the environment of {name}, which `make test` builds")
        return python

    return find
