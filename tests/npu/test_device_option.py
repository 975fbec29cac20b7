"""`validate` and `bench` with `--device` and an NPU."""

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from tests.cli.command_line import hide, invoke, parsed

pytestmark = pytest.mark.integration


def test_validate_runs_what_is_for_the_npu_in_its_simulator(hexagon_bundle: Bundle) -> None:
    ended = invoke("validate", str(hexagon_bundle.root), "--device", "hexagon-v75", "--limit", "8", "--json")
    assert ended.code == 0, ended.said
    answer = parsed(ended.stdout)
    assert [item["precision"] for item in answer["artifacts"]] == ["int8", "w8a16"]
    for found in answer["artifacts"]:
        assert (found["runtime"], found["n"]) == ("qnn-simulator-v75", 8)
        assert found["sqnr_db"] > 10


def test_bench_asks_the_compiler_and_gives_no_time(hexagon_bundle: Bundle) -> None:
    ended = invoke("bench", str(hexagon_bundle.root), "--device", "hexagon-v79", "--json")
    assert ended.code == 0, ended.said
    floats, int8, _ = sorted(parsed(ended.stdout)["results"], key=lambda item: str(item["precision"]))
    assert (floats["precision"], floats["status"], floats["reason"]) == (
        "fp32",
        "not_executed",
        "it is not for Hexagon V79",
    )
    assert (int8["status"], int8["source"], set(int8["placement"])) == ("measured", "compile_only", {"NPU"})
    assert int8["compiled_bytes"] > 100_000
    assert [name for name, value in int8.items() if name.endswith("_ms") and value is not None] == []


def test_inspect_shows_where_operators_run(hexagon_bundle: Bundle) -> None:
    ended = invoke("inspect", str(hexagon_bundle.root), "--placement", "hexagon-v75", "--json")
    assert ended.code == 0, ended.said
    floats, int8, _ = sorted(parsed(ended.stdout)["artifacts"], key=lambda item: str(item["precision"]))
    assert "placement" not in floats
    first = int8["placement"][0]
    assert (first["operator"], first["unit"], first["reason"]) == ("Conv2d", "NPU", "")
    assert sum(item["share_of_macs"] for item in int8["placement"]) == pytest.approx(1)
    shown = invoke("inspect", str(hexagon_bundle.root / int8["path"]), "--placement", "hexagon-v75")
    assert f"{int8['path']}: 0 operators left on the CPU; compiled by onnxruntime-qnn" in shown.stdout


@pytest.mark.parametrize("command", ["validate", "gate"])
def test_a_bundle_without_such_artifacts_is_refused(image_bundle: Bundle, command: str) -> None:
    ended = invoke(command, str(image_bundle.root), "--device", "hexagon-v75")
    assert ended.code == 2
    assert "has no artifact for Hexagon V75" in ended.said
    assert "--target hexagon --precision int8" in ended.said


@pytest.mark.parametrize("command", ["validate", "gate", "bench"])
def test_an_unknown_npu_is_refused(image_bundle: Bundle, command: str) -> None:
    ended = invoke(command, str(image_bundle.root), "--device", "hexagon-v70")
    assert ended.code == 2
    assert "'hexagon-v70' is not known" in ended.said


def test_ethos_u_has_an_estimate_that_is_no_latency(ethos_u_bundle: Bundle) -> None:
    ended = invoke("bench", str(ethos_u_bundle.root), "--device", "ethos-u85-256", "--json")
    assert ended.code == 0, ended.said
    for found in parsed(ended.stdout)["results"]:
        assert (found["status"], found["source"], found["n"]) == ("measured", "estimated", 0)
        assert found["mean_ms"] > 0.01
        assert found["p50_ms"] is None
        assert found["assumes"].startswith("Ethos_U85_SYS_DRAM_Low")
    shown = invoke("bench", str(ethos_u_bundle.root), "--device", "ethos-u85-256")
    assert "No latency is given" in shown.stdout
    assert "estimated" in shown.stdout


def test_inspect_gives_velas_reasons_and_cycles(ethos_u_bundle: Bundle) -> None:
    ended = invoke("inspect", str(ethos_u_bundle.root), "--placement", "ethos-u55-256", "--json")
    assert ended.code == 0, ended.said
    int8, w8a16 = sorted(parsed(ended.stdout)["artifacts"], key=lambda item: str(item["precision"]))
    assert {item["unit"] for item in int8["placement"]} == {"NPU"}
    assert any(item["unit"] == "CPU" and item["reason"] for item in w8a16["placement"])
    assert int8["estimate"]["ms"] > 0.01
    assert sum(layer["cycles"] for layer in int8["layers"]) > 1000
    shown = invoke("inspect", str(ethos_u_bundle.root), "--placement", "ethos-u55-256")
    assert "not measured" in shown.stdout
    assert "compiled for ethos-u55-256 (none on the CPU, kept as" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("command", ["validate", "gate"])
def test_without_a_simulator_nothing_is_judged(ethos_u_bundle: Bundle, command: str) -> None:
    ended = invoke(command, str(ethos_u_bundle.root), "--device", "ethos-u65-512")
    assert ended.code == 2
    assert "nothing here simulates Ethos-U65-512" in ended.said


def test_a_missing_compiler_is_told_with_its_extra(ethos_u_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "ethosu")
    ended = invoke("bench", str(ethos_u_bundle.root), "--device", "ethos-u65-512")
    assert ended.code == 3
    assert "pip install 'cloformer-deploy[ethos-u]'" in ended.said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--target", "cpu", "--precision", "int8"), "compute in float too"),
        (("--target", "ethos-u", "--precision", "fp32"), "fp32 files have no integers for their interface"),
        (("--target", "ethos-u", "--precision", "int8", "--input", "image"), "computed in float"),
    ],
)
def test_integers_at_the_interface_need_integers_behind_it(options: tuple[str, ...], reason: str) -> None:
    ended = invoke("export", "--format", "tflite", "--integer-io", *options, "--output", "nowhere")
    assert ended.code == 2
    assert reason in ended.said
