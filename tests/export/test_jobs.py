"""Conversions in processes of their own: what happens when one fails, crashes, or is no longer wanted."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.export.jobs import Job, run
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.zoo import resolve_weights

pytestmark = pytest.mark.integration


def job(folder: Path, weights: Path) -> Job:
    return Job(
        weights=weights,
        format="onnx",
        target="cpu",
        outputs={"fp32": folder / "made.onnx"},
        preprocessing=Preprocessing.published(64, 64),
        input_kind="tensor",
        batch=1,
        labels=None,
        metadata={"variant": "xxs"},
        ios=17,
    )


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "cloformer_deploy.export.worker" in child.cmdline()]


def test_one_that_fails_ends_the_others_at_once(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere\.pth: there is no such file"):
        run([job(tmp_path, tmp_path / "nowhere.pth"), job(tmp_path, resolve_weights())], Silent())
    # A conversion takes longer than the import of torch that a refusal waits for.
    assert not (tmp_path / "made.onnx").exists()
    assert workers() == []


def test_a_crash_is_told_with_its_signal(tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def convert() -> None:
        try:
            run([job(tmp_path, resolve_weights())], Silent())
        except ToolError as error:
            raised.append(error)

    thread = threading.Thread(target=convert)
    thread.start()
    while not (found := workers()):
        time.sleep(0.01)
    found[0].kill()
    thread.join()
    assert "the onnx converter was killed by SIGKILL" in str(raised[0])
