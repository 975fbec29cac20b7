"""`blame` on the command line: refusals, and a real file from diagnosis to an exclusion file that export takes."""

import hashlib
from pathlib import Path

import pytest

from cloformer_deploy.backends.registry import backend_of
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.exporting.float_layers import ExcludedLayers, write_excluded_layers
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.zoo import resolve_weights
from tests.cli.command_line import EXPORT, FP32, CopyBundle, hide, invoke, parsed, read_manifest, spawn
from tests.tiny import TRAINED, TRAINED_SIDE

ONNX = "cloformer_xxs-fp32.onnx"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none.onnx",), "none.onnx does not exist"),
        (("bundle",), f"bundle is a bundle Next: give one of its artifacts: {ONNX}"),
        ((f"bundle/{ONNX}", "--plot", "depth.pdf"), "end its name in .svg or .png"),
        (
            (f"bundle/{ONNX}", "--write-exclusions", "none/exclusions.json"),
            "--write-exclusions none/exclusions.json cannot be written there",
        ),
        ((f"bundle/{ONNX}", "--data", "none"), "none"),
        (("alone.onnx",), "alone.onnx is in no bundle"),
        (("bundle/manifest.json",), "is not listed in its bundle's manifest"),
    ],
)
def test_refusals(drafted: CopyBundle, args: tuple[str, ...], said: str) -> None:
    root = drafted()
    Path("alone.onnx").write_bytes((root / ONNX).read_bytes())
    outcome = invoke("blame", *args)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert said in outcome.said


def test_a_plot_needs_matplotlib(drafted: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted()
    hide(monkeypatch, "matplotlib")
    outcome = invoke("blame", f"bundle/{ONNX}", "--plot", "depth.svg")
    assert outcome.code == 3
    assert "pip install 'cloformer-deploy[report]'" in outcome.said


def exclusions(weights: Path) -> ExcludedLayers:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return ExcludedLayers(
        weights_sha256=sha256, format="onnx", target="cpu", precision="int8", excluded_layers=("head",)
    )


@pytest.mark.parametrize(
    ("changes", "args", "said"),
    [
        ({"weights_sha256": "0" * 64}, (), "is for other weights"),
        ({"format": "tflite"}, (), "is for an artifact that is not asked for"),
        ({"precision": "fp32"}, ("--precision", "fp32"), "whose activations are float anyway"),
        ({}, ("--max-drop", "1", "--data", "."), "--recipe and --max-drop both choose"),
    ],
)
def test_export_refuses_exclusion_files_that_do_not_fit(
    changes: dict[str, str], args: tuple[str, ...], said: str
) -> None:
    write_excluded_layers(Path("exclusions.json"), exclusions(resolve_weights()).model_copy(update=changes))
    asked = ("--format", "onnx", "--precision", "int8", "--recipe", "exclusions.json", "--output", "out")
    outcome = invoke("export", *asked, *args)
    assert outcome.code == 2
    assert said in outcome.said
    assert not Path("out").exists()


@pytest.mark.integration
def test_a_sound_file_in_figures_and_a_plot(exported: CopyBundle) -> None:
    exported()
    options = ("--limit", 2, "--plot", "depth.svg", "--write-exclusions", "exclusions.json")
    outcome = spawn("blame", f"bundle/{FP32}", *options, "--json", cwd=Path.cwd())
    assert outcome.code == 0, outcome.stderr
    found = parsed(outcome.stdout)
    assert found["schema_version"] == 1
    assert (found["findings"], found["exclusions"], found["fix"]["advice"]) == ([], None, "nothing")
    assert found["file"] == found["reexported"]
    assert not any(layer["fault"] for layer in found["layers"])
    assert min(layer["sqnr_db"] for layer in found["layers"]) > 90
    assert Path("depth.svg").read_text().count("<svg") == 1
    assert not Path("exclusions.json").exists()


@pytest.mark.integration
def test_export_keeps_float_what_an_exclusion_file_names() -> None:
    side = TRAINED_SIDE
    make_calibration("rendered", 2, 0, Preprocessing.published(side, side), Path("set"), Silent())
    named = ("patch_embed", "layers.2.blocks.0.attn$")
    known = exclusions(TRAINED)
    write_excluded_layers(Path("exclusions.json"), known.model_copy(update={"excluded_layers": named}))
    asked = (*EXPORT[:-1], "out", "--precision", "int8", "--calibration", "set", "--recipe", "exclusions.json")
    made = spawn(*asked, cwd=Path.cwd())
    assert made.code == 0, made.stderr
    (artifact,) = read_manifest(Path("out"))["artifacts"]
    assert artifact["excluded_layers"] == list(named)
    integers = [tensor.name for tensor in backend_of(Path("a.onnx")).describe(Path("out", artifact["path"])).quantized]
    assert not [name for name in integers if name.startswith("patch_embed")]
    assert [name for name in integers if name.startswith("layers.2.blocks.0.attn.proj.weight")]
    write_excluded_layers(Path("exclusions.json"), known.model_copy(update={"excluded_layers": ("layers.9",)}))
    refused = spawn(*asked, "--overwrite", cwd=Path.cwd())
    assert refused.code == 2
    assert "the excluded layer 'layers.9' has no quantized operators" in refused.said
    assert "Equalizing" not in refused.stderr
