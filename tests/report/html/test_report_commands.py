"""The commands on the page are accepted by export, and make every artifact again."""

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cloformer_deploy.backends.registry import default_target
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import Artifact, Calibration, Interface, Weights
from cloformer_deploy.data import Preprocessing, bundled_calibration
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.report.html import Asked
from cloformer_deploy.report.html.commands import Commands, commands
from cloformer_deploy.weights.zoo import DEFAULT, resolve_weights
from tests.report.html.report_examples import KINDS, artifacts, measured, report


def told(made: list[Artifact], **changes: object) -> Commands:
    """Return the commands of a bundle of the bundled weights with these artifacts."""
    copy = digest(resolve_weights())
    weights = Weights(name=DEFAULT, sha256=copy, file="weights.safetensors", file_sha256=copy)
    base = report().bundle.manifest.model_copy(update={"weights": weights, "labels": CLASSES})
    return commands(
        Bundle(Path("my bundle"), base.model_copy(update={"artifacts": tuple(made), **changes})), (), Asked()
    )


def values(words: list[str], option: str) -> list[str]:
    return [after for before, after in pairwise(words) if before == option]


def test_every_kind_is_made_again_once() -> None:
    found = told(artifacts(len(KINDS)))
    made = []
    for line in found.export:
        words = shlex.split(line)
        assert words[:4] == ["cloformer-deploy", "export", "--weights", DEFAULT]
        assert words[-2:] == ["--output", "my bundle"]
        assert not {"--input", "--input-size", "--batch", "--calibration", "--labels"} & set(words)
        for name in values(words, "--format"):
            (target,) = values(words, "--target") or [default_target(name)]
            made += [(name, precision, target) for precision in values(words, "--precision")]
    assert sorted(made) == sorted(KINDS)
    assert found.notes == ()


def test_options_of_a_format_are_given_where_they_are_not_the_default() -> None:
    (made,) = [item for item in artifacts(len(KINDS)) if (item.format, item.precision) == ("coreml", "fp32")]
    assert "--ios" not in told([made]).export[0]
    assert "--ios 18" in told([made.model_copy(update={"options": {"ios": 18}})]).export[0]


def test_an_opset_is_given_where_the_file_would_have_another() -> None:
    files = {
        item.precision: item for item in artifacts(len(KINDS)) if (item.format, item.target) == ("onnx", "hexagon")
    }
    for precision, default in (("int8", 20), ("w8a16", 21)):
        assert files[precision].options == {"opset": default}
        assert "--opset" not in told([files[precision]]).export[0]
    assert "--opset 17" in told([files["int8"].model_copy(update={"options": {"opset": 17}})]).export[0]


def test_what_differs_from_the_defaults_is_given() -> None:
    (first,) = artifacts(1)
    changed = first.model_copy(update={"input": Interface(kind="image", batch="dynamic")})
    (line,) = told([changed], preprocessing=Preprocessing.published(256, 192)).export
    assert "--input image --input-size 256x192 --batch dynamic" in line


@pytest.mark.parametrize("bundled", [True, False])
def test_a_calibration_set_that_does_not_ship_is_asked_for(bundled: bool) -> None:
    sha256 = bundled_calibration("rendered").sha256 if bundled else "c" * 64
    made = artifacts(3)[2].model_copy(update={"calibration": Calibration(sha256=sha256, n=8, seed=3)})
    found = told([made])
    assert ("--calibration FILE" in found.export[0]) is not bundled
    assert any("cccc" in note and "8 images, seed 3" in note for note in found.notes) is not bundled


def test_what_the_manifest_does_not_tell_is_said() -> None:
    made = artifacts(3)[2].model_copy(update={"excluded_layers": ("stem", "head")})
    (note,) = told([made]).notes
    assert "cloformer_xxs-int8.onnx: --max-drop or --recipe kept 2 layers out of 8 bits" in note
    found = report().commands
    assert "--weights FILE --labels FILE" in found.export[0]
    assert any(f"sha256 {'a' * 64}" in note for note in found.notes)


def test_the_rest_repeats_what_was_asked() -> None:
    made = report(1)
    results = [measured(item, "ssh://pi@board", "device") for item in made.bundle.manifest.artifacts]
    asked = Asked(data=Path("my images"), limit=5, config=Path("drift.toml"), output=Path("out.html"))
    found = commands(replace(made.bundle, root=Path("b")), results, asked)
    assert found.validate == "cloformer-deploy validate b --data 'my images' --limit 5"
    assert found.gate == "cloformer-deploy gate b --data 'my images' --limit 5 --config drift.toml"
    assert found.bench == ("cloformer-deploy bench b --device ssh://pi@board --threads 1",)
    assert found.report == (
        "cloformer-deploy report b --output out.html --data 'my images' --limit 5 --config drift.toml"
    )


def test_an_option_without_a_value_is_given_as_one() -> None:
    made = next(item for item in artifacts(len(KINDS)) if item.format == "tflite")
    assert "--integer-io" not in told([made]).export[0]
    whole = told([made.model_copy(update={"options": {"integer_io": True}})]).export[0]
    assert "--integer-io" in whole.split()
    assert "True" not in whole


def test_layers_in_16_bits_explain_their_opset() -> None:
    int8 = next(item for item in artifacts(len(KINDS)) if (item.format, item.precision) == ("onnx", "int8"))
    mixed = int8.model_copy(update={"target": "hexagon", "excluded_layers": ("patch_embed",), "options": {"opset": 21}})
    found = told([mixed])
    assert "--opset" not in found.export[0]
    assert any("1 layers out of 8 bits" in note for note in found.notes)
