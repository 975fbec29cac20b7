"""The file that keeps results with a bundle."""

import json
import threading
from pathlib import Path

import pytest

from cloformer_deploy.bench import Result, keep_results, read_results
from cloformer_deploy.bench.results import RESULTS_NAME
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import BundleError


@pytest.fixture
def bundle(onnx_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle(tmp_path, onnx_bundle.manifest)


def result(bundle: Bundle, device: str = "host", p50_ms: float = 10.0, threads: int = 1) -> Result:
    return Result(
        **bundle.manifest.artifacts[0].model_dump(include={"path", "format", "precision", "target", "sha256"}),
        device=device,
        source="host",
        status="measured",
        threads=threads,
        p50_ms=p50_ms,
        measured_at="2026-01-01T00:00:00+00:00",
    )


def test_a_newer_result_takes_the_place(bundle: Bundle) -> None:
    assert read_results(bundle) == ()
    keep_results(bundle, [result(bundle), result(bundle, threads=2)])
    keep_results(bundle, [result(bundle, p50_ms=9.0), result(bundle, device="adb")])
    found = {(item.device, item.threads): item.p50_ms for item in read_results(bundle)}
    assert found == {("host", 1): 9.0, ("host", 2): 10.0, ("adb", 1): 10.0}


def test_results_of_another_file_are_not_given(bundle: Bundle) -> None:
    keep_results(bundle, [result(bundle).model_copy(update={"sha256": "0" * 64})])
    assert read_results(bundle) == ()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema_version": 1}', '{"schema_version": 2, "results": [{}]}', "\xff"]
)
def test_a_damaged_file_is_refused_and_kept(bundle: Bundle, content: str) -> None:
    path = bundle.root / RESULTS_NAME
    path.write_text(content, encoding="latin-1")
    with pytest.raises(BundleError, match="cannot be read") as refused:
        keep_results(bundle, [result(bundle)])
    assert refused.value.message.startswith(str(path))
    assert "\n" not in refused.value.message
    assert path.read_text(encoding="latin-1") == content


def test_two_that_keep_at_once_both_do(bundle: Bundle) -> None:
    def keep(number: int) -> None:
        keep_results(bundle, [result(bundle, device=f"adb:{number}")])

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item.device for item in read_results(bundle)} == {f"adb:{number}" for number in range(8)}
    assert json.loads((bundle.root / RESULTS_NAME).read_text())["schema_version"] == 2


def test_only_real_machines_have_a_latency(bundle: Bundle) -> None:
    measured = result(bundle)
    assert measured.is_latency
    assert not measured.model_copy(update={"source": "emulated"}).is_latency
    assert not measured.model_copy(update={"status": "failed"}).is_latency
