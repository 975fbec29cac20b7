"""Real exports, each made once a session."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cloformer_deploy.exporting.pipeline import Export, export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent

Exporter = Callable[[dict[str, Tensor], ExportRequest], Export]


@pytest.fixture(scope="session")
def export_weights(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Export a state dict as a request says; the request's weights and output are filled in."""

    def run(state_dict: dict[str, Tensor], request: ExportRequest) -> Export:
        folder = tmp_path_factory.mktemp("export")
        weights = folder / "weights.pt"
        torch.save(state_dict, weights)
        return export(replace(request, weights=str(weights), output=folder / "bundle"), Silent())

    return run
