"""Every input of the fuzz corpus through its parser, in this process and without the fuzzer."""

from contextlib import suppress
from pathlib import Path

import pytest

from cloformer_deploy.errors import CloformerDeployError
from tests.fuzz.targets import CORPUS, TARGETS, seeds

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors_leave_a_parser(name: str, tmp_path: Path) -> None:
    for seed in seeds(name):
        with suppress(CloformerDeployError):
            TARGETS[name](seed.read_bytes(), tmp_path)


@pytest.mark.parametrize(
    ("name", "seed"), [("calibration", "one-image"), ("mlpackage", "conv"), ("onnx", "gemm"), ("tflite", "dense")]
)
def test_the_valid_seeds_are_read(name: str, seed: str, tmp_path: Path) -> None:
    TARGETS[name]((CORPUS / name / seed).read_bytes(), tmp_path)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000
