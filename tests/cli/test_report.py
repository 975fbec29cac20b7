"""`report` on real bundles: the page is there whole or not at all, whatever the checks say, and runs nothing twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.bench import Result, keep_results
from cloformer_deploy.bundle import Bundle
from tests.cli.command_line import CopyBundle, edit_manifest, hide, invoke, parsed
from tests.cli.contract import fits

FLAGS = ("--limit", 4)
ANSWER = {
    "schema_version": int,
    "output": str,
    "passed": bool,
    "images": str,
    "task": str,
    "metric": str,
    "reference": {"runtime": str, "n": int, "score": (float, None)},
    "artifacts": [
        {
            "path": str,
            "format": str,
            "precision": str,
            "target": str,
            "bytes": int,
            "status": str,
            "n": int,
            "score": (float, None),
            "drop_pp": (float, None),
            "drop_ci95_pp": ([float], None),
            "agreement": (float, None),
            "sqnr_db": (float, None),
            "latency": [{"device": str, "source": str, "threads": int, "p50_ms": float, "p90_ms": (float, None)}],
        }
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """PyTorch looks at the images once, not once a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def reported(bundle: Path, *args: object) -> dict[str, Any]:
    """The JSON answer of a report, which is written whatever the checks say."""
    outcome = invoke("report", bundle, *FLAGS, *args, "--json")
    assert outcome.code == 0, outcome.said
    answer: dict[str, Any] = parsed(outcome.stdout)
    fits(answer, ANSWER)
    return answer


@pytest.mark.integration
def test_a_failed_build_is_reported_and_is_no_error(drafted: CopyBundle) -> None:
    bundle = drafted()
    answer = reported(bundle)
    assert (answer["output"], answer["passed"]) == (str(bundle / "report.html"), False)
    (artifact,) = answer["artifacts"]
    assert (artifact["status"], artifact["latency"]) == ("failed", [])
    page = (bundle / "report.html").read_text()
    assert "1 worse than allowed" in page
    assert "Not measured." in page
    assert [path.name for path in bundle.iterdir() if path.name.startswith(".")] == []
    Bundle.open(bundle).verify()


@pytest.mark.integration
def test_what_it_says_without_json(drafted: CopyBundle) -> None:
    outcome = invoke("report", drafted(), *FLAGS, "--output", "page.html")
    assert outcome.code == 0
    assert "page.html: 1 artifact (1 failed), latency not measured. Next: cloformer-deploy bench " in outcome.said
    assert Path("page.html").read_text().startswith("<!doctype html>")


@pytest.mark.integration
def test_measurements_that_were_kept_are_shown(drafted: CopyBundle) -> None:
    bundle = Bundle.open(drafted())
    (artifact,) = bundle.manifest.artifacts
    kind = artifact.model_dump(include={"path", "format", "precision", "target", "sha256"})
    told = {**kind, "status": "measured", "threads": 1, "measured_at": "2026-01-01T00:00:00Z"}
    host = Result.model_validate({**told, "device": "host", "source": "host", "p50_ms": 12.25, "p90_ms": 13.5})
    emulated = Result.model_validate({**told, "device": "ssh://board", "source": "emulated", "p50_ms": 7654.0})
    keep_results(bundle, [host, emulated])
    (shown,) = reported(bundle.root)["artifacts"]
    assert shown["latency"] == [{"device": "host", "source": "host", "threads": 1, "p50_ms": 12.25, "p90_ms": 13.5}]
    page = (bundle.root / "report.html").read_text()
    assert "12.2 ms (p90 13.5)" in page
    assert "7,654" not in page
    assert "7654" not in page


@pytest.mark.integration
def test_text_of_a_manifest_is_never_markup(drafted: CopyBundle) -> None:
    bundle = drafted()
    name = "</title><script>alert(1)</script>"
    edit_manifest(bundle, lambda manifest: manifest["weights"].update(name=name))
    edit_manifest(bundle, lambda manifest: manifest["artifacts"][0].update(created_with={name: name}))
    reported(bundle)
    page = (bundle / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;/title&gt;&lt;script&gt;" in page


@pytest.mark.integration
def test_what_gate_ran_is_not_run_again(exported: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = exported()
    assert invoke("gate", bundle, *FLAGS).code == 0

    def refuse(*_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr("cloformer_deploy.backends.onnx.runtime.OnnxRuntime.open", refuse)
    monkeypatch.setattr("cloformer_deploy.validation.bundle_work.reference_outputs", refuse)
    answer = reported(bundle)
    assert answer["passed"]
    assert [item["status"] for item in answer["artifacts"]] == ["passed", "passed"]
    page = (bundle / "report.html").read_text()
    assert all(f"onnx {precision}" in page for precision in ("fp32", "fp16"))
    assert "<span>Conv</span>" in page


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--output", "report.pdf"), "end its name in .html"),
        (("--output", "nowhere/report.html"), "cannot be written there"),
        (("--config", "nowhere.toml"), "cannot be read"),
        (("--baseline", "nowhere.json"), "cannot be read"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_leave_the_page_that_was_there(drafted: CopyBundle, args: tuple[str, ...], told: str) -> None:
    bundle = drafted()
    (bundle / "report.html").write_text("before")
    outcome = invoke("report", bundle, *FLAGS, *args)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert told in outcome.said
    assert (bundle / "report.html").read_text() == "before"


def test_damaged_measurements_are_no_measurements(drafted: CopyBundle) -> None:
    bundle = drafted()
    (bundle / "bench.json").write_text("{")
    outcome = invoke("report", bundle, *FLAGS)
    assert outcome.code == 2
    assert "bench.json cannot be read" in outcome.said
    assert not (bundle / "report.html").exists()


def test_it_needs_jinja2(drafted: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "jinja2")
    outcome = invoke("report", drafted(), *FLAGS)
    assert outcome.code == 3
    assert "jinja2 is not installed Next: pip install 'cloformer-deploy[report]'" in outcome.said
