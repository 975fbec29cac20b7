"""Bundled weights are calibrated on the set that is meant for them, if none is given."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cloformer_deploy.data import open_calibration
from cloformer_deploy.exporting import pipeline
from cloformer_deploy.exporting.jobs import Job
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Progress, Silent


class EnoughError(Exception):
    """Ends an export before its conversions."""


@pytest.mark.parametrize(
    ("weights", "bundled"),
    [("xxs-rendered", "rendered"), ("xxs-scenes-segment", "scenes"), ("xxs-scenes-detect", "scenes")],
)
def test_the_set_of_each_task(weights: str, bundled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Job] = []

    def run(jobs: Sequence[Job], progress: Progress) -> None:
        started.extend(jobs)
        raise EnoughError

    monkeypatch.setattr(pipeline, "run", run)
    with pytest.raises(EnoughError):
        pipeline.export(ExportRequest(("onnx",), ("int8",), weights=weights, output=tmp_path / "bundle"), Silent())
    (job,) = started
    assert (job.calibration, job.bundled) == (None, bundled)
    opened = open_calibration(job.calibration, job.bundled)
    next(opened.batches(job.source.preprocessing, 1))
