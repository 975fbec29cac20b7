"""Help: complete against the contract, and light: it imports none of the packages that do the work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cloformer_deploy import __version__
from cloformer_deploy.cli.app import app
from tests.cli.command_line import Outcome, invoke, spawn

HEAVY = (
    "PIL",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "coremltools",
    "jinja2",
    "litert_torch",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnxsim",
    "ray",
    "safetensors",
    "torch",
    # Ours that load pydantic and numpy.
    "cloformer_deploy.data",
    "cloformer_deploy.bundle.manifest",
    "cloformer_deploy.exporting.pipeline",
)
COMMANDS = {
    name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    for name, command in cast(TyperGroup, get_command(app)).commands.items()
}
"""The commands that exist, and their options, as the application declares them."""
OPTIONS = {
    "export": (
        *("--variant", "--weights", "--format", "--precision", "--target", "--input", "--input-size", "--batch"),
        *("--output", "--overwrite", "--json", "--labels", "--ios", "--opset", "--max-drop", "--data", "--budget"),
        "--workers",
        *("--recipe", "--calibration", "--architecture", "--head", "--scores", "--integer-io", "--compile-for"),
    ),
    "calibrate": ("IMAGES", "--count", "--seed", "--input-size", "--color", "--whole", "--output", "--json"),
    "validate": ("BUNDLE", "--data", "--limit", "--device", "--cross-check", "--workers", "--json"),
    "bench": (
        *("[BUNDLE]", "--device", "--threads", "--cores", "--mlperf", "--python", "--adb", "--benchmark-binary"),
        *("--download", "--timeout", "--end-to-end", "--json"),
    ),
    "tune": (
        *("--format", "--output", "--weights", "--precision", "--device", "--threads", "--cores", "--data", "--limit"),
        *("--max-drop", "--calibration", "--input-size", "--measurements", "--minutes", "--json"),
    ),
    "gate": (
        *("BUNDLE", "--data", "--limit", "--device", "--config", "--baseline", "--update-baseline"),
        *("--baseline-bundle", "--junit", "--summary", "--cache", "--no-cache", "--workers", "--json"),
    ),
    "blame": ("ARTIFACT", "--data", "--limit", "--calibration", "--plot", "--write-exclusions", "--overlay", "--json"),
    "inspect": ("ARTIFACT|BUNDLE", "--placement", "--overlay", "--json"),
    "report": ("BUNDLE", "--output", "--data", "--limit", "--config", "--baseline", "--cache", "--json"),
    "render": ("--split", "--first", "--count", "--form", "--size", "--output", "--json"),
    "doctor": ("--json",),
}
"""The options of each command, by the contract and the documentation."""

LISTS_MODULES = """
import json, sys
from cloformer_deploy.cli import main
sys.argv = ["cloformer-deploy", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""


def words(outcome: Outcome) -> set[str]:
    return set(outcome.said.split())


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], [], *([command, "--help"] for command in COMMANDS)],
    ids=lambda args: " ".join(args) or "bare",
)
@pytest.mark.integration
def test_light(args: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTS_MODULES, json.dumps(args)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == (0 if {"--help", "--version"} & set(args) else 2)
    assert "cloformer_deploy.cli.export" in modules
    assert sorted(set(HEAVY) & set(modules)) == []
    # typer loads it itself, as soon as there is a command whose arguments it has to parse.
    assert "pydantic" not in modules or set(args) & set(COMMANDS)


@pytest.mark.integration
def test_a_refused_request_waits_for_no_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTS_MODULES, json.dumps(["export", "--format", "hdf5"])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 2
    assert "cloformer_deploy.exporting.pipeline" in modules
    assert {"torch", "onnx", "onnxruntime", "coremltools", "litert_torch", "ai_edge_litert"} & set(modules) == set()


@pytest.mark.integration
def test_heavy_packages_are_seen_when_loaded(tmp_path: Path) -> None:
    """The list above can tell: inspecting an ONNX file that is none loads onnx and numpy."""
    (tmp_path / "text.onnx").write_text("not a model")
    done = subprocess.run(
        [sys.executable, "-c", LISTS_MODULES, '["inspect", "text.onnx"]'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 2
    assert {"onnx", "numpy"} <= set(modules)


def test_every_command_is_listed() -> None:
    shown = invoke("--help")
    assert shown.code == 0
    assert shown.stderr == ""
    assert set(COMMANDS) <= words(shown)
    assert "--version" in words(shown)


def test_the_documented_options_are_those_that_exist() -> None:
    documented = {name: {word for word in words if word.startswith("--")} for name, words in OPTIONS.items()}
    assert documented == COMMANDS


@pytest.mark.parametrize(("command", "options"), OPTIONS.items(), ids=OPTIONS)
def test_every_option_is_shown(command: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = invoke(command, "--help")
    assert shown.code == 0
    assert shown.stderr == ""
    assert [option for option in options if option not in words(shown)] == []


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("export", "xxs xs s global local onnx coreml tflite all fp32 fp16 cpu ane tensor image dynamic 224 17"),
        ("validate", "one sub-folder per class images/ with masks/ COCO annotations"),
    ],
)
def test_values_to_choose_from_are_shown(command: str, values: str) -> None:
    shown = invoke(command, "--help").said
    for sign in ",.;:()[]|":
        shown = shown.replace(sign, " ")
    assert [value for value in values.split() if value not in shown.split()] == []


def test_help_fits_a_terminal_of_80_columns() -> None:
    for command in COMMANDS:
        assert max(map(len, invoke(command, "--help").stdout.splitlines())) <= 80


def test_version() -> None:
    shown = invoke("--version")
    assert (shown.code, shown.stdout, shown.stderr) == (0, f"cloformer-deploy {__version__}\n", "")


def test_bare_command_shows_the_help() -> None:
    shown = invoke()
    assert shown.code == 2
    assert shown.stdout.strip() == invoke("--help").stdout.strip()


@pytest.mark.integration
def test_as_a_module_and_as_a_script(tmp_path: Path) -> None:
    as_module = spawn("--version", cwd=tmp_path)
    script = Path(sys.executable).with_name("cloformer-deploy")
    as_script = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert as_module.stdout == as_script.stdout == f"cloformer-deploy {__version__}\n"


@pytest.mark.integration
def test_a_reader_that_goes_away_is_no_failed_check(tmp_path: Path) -> None:
    """Exit code 1 would read as drift where `set -o pipefail` is on."""
    command = f"{sys.executable} -m cloformer_deploy doctor | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
