"""`npu_share` in drift.toml, asked of real compilers."""

from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.gate import gate, read_config
from cloformer_deploy.gate.npus import npu_checks
from cloformer_deploy.npu import NPUS
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.validation.cache import Cache

pytestmark = pytest.mark.integration


def test_what_stays_on_the_cpu_fails(ethos_u_bundle: Bundle, tmp_path: Path) -> None:
    config = tmp_path / "drift.toml"
    config.write_text(
        '[[limits]]\ntarget = "ethos-u"\nnpu_share = 1.0\nagreement = 0.0\nsqnr_db = -100.0\ndrop_pp = 100.0\n'
    )
    cache = Cache(tmp_path / "cache")
    for _ in range(2):  # the second time from the cache
        found = gate(ethos_u_bundle, None, 20, read_config(config), None, cache, {}, Silent())
        outcomes = {
            cell.artifact.precision: {check.outcome for check in cell.checks if check.name == "npu_share"}
            for cell in found.cells
        }
        assert outcomes == {"int8": {"passed"}, "w8a16": {"failed"}}


def test_the_named_npu_is_asked_alone(ethos_u_bundle: Bundle, tmp_path: Path) -> None:
    (int8,) = (item for item in ethos_u_bundle.manifest.artifacts if item.precision == "int8")
    config = tmp_path / "drift.toml"
    config.write_text("[defaults]\nnpu_share = 0.5\n")
    limits = read_config(config).limits_of(int8, TASKS["classification"])
    (check,) = npu_checks(int8, ethos_u_bundle.path(int8), limits, NPUS["ethos-u85-256"], lambda _, compute: compute())
    assert (check.outcome, check.value, check.limit) == ("passed", 1.0, 0.5)
    assert "Ethos-U85-256 runs 100.0%" in check.text


def test_a_file_for_no_npu_cannot_pass(image_bundle: Bundle, tmp_path: Path) -> None:
    artifact = image_bundle.manifest.artifacts[0]
    config = tmp_path / "drift.toml"
    config.write_text("[defaults]\nnpu_share = 0.5\n")
    limits = read_config(config).limits_of(artifact, TASKS["classification"])
    (check,) = npu_checks(artifact, image_bundle.path(artifact), limits, None, lambda _, compute: compute())
    assert (check.outcome, check.text) == ("failed", f"no NPU runs {artifact.precision} files for {artifact.target}")
