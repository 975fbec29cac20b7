"""`--overlay`: figures of tensors as node data, read with Model Explorer's own types and found in its graphs."""

import json
import subprocess
from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from tests.artifacts import artifact_of
from tests.cli.command_line import invoke, parsed
from tests.other_python import other_python

KEYS = Path(__file__).with_name("model_explorer_keys.py")


def shown(path: Path, overlay: Path) -> dict[str, float]:
    """Return the values of an overlay, all of whose keys Model Explorer has in the graph of the file."""
    command = [other_python("model-explorer"), KEYS, path, overlay]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(found["overlay"]) == [found["graph"]]
    keys = found["overlay"][found["graph"]]
    assert set(keys) <= set(found["keys"])
    (data,) = json.loads(overlay.read_text()).values()
    return {key: item["value"] for key, item in data["results"].items()}


@pytest.mark.integration
def test_estimated_cycles_are_on_the_graph(ethos_u_bundle: Bundle, tmp_path: Path) -> None:
    path, overlay = ethos_u_bundle.path(artifact_of(ethos_u_bundle, "tflite", "int8")), tmp_path / "cycles.json"
    ended = invoke("inspect", str(path), "--placement", "ethos-u55-256", "--overlay", str(overlay), "--json")
    assert ended.code == 0, ended.said
    layers = parsed(ended.stdout)["layers"]
    values = shown(path, overlay)
    assert sum(values.values()) > 0.99 * sum(layer["cycles"] for layer in layers)
    assert len(values) > 100


@pytest.mark.integration
def test_units_are_on_the_graph(hexagon_bundle: Bundle, tmp_path: Path) -> None:
    path, overlay = hexagon_bundle.path(artifact_of(hexagon_bundle, "onnx", "int8")), tmp_path / "units.json"
    ended = invoke("inspect", str(path), "--placement", "hexagon-v75", "--overlay", str(overlay))
    assert ended.code == 0, ended.said
    values = shown(path, overlay)
    assert len(values) > 100
    assert set(values.values()) == {1}


@pytest.mark.integration
def test_blame_is_on_the_graph(hexagon_bundle: Bundle, tmp_path: Path) -> None:
    """Costs a re-export (8 s): names of tensors are matched there, and nowhere else."""
    path, overlay = hexagon_bundle.path(artifact_of(hexagon_bundle, "onnx", "fp32")), tmp_path / "blame.json"
    ended = invoke("blame", str(path), "--limit", "2", "--overlay", str(overlay), "--json")
    assert ended.code == 0, ended.said
    found = parsed(ended.stdout)
    values = shown(path, overlay)
    assert min(values.values()) == min(found["tensor_sqnr_db"].values())
    assert len(values) > 50


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--overlay", "a.json"), "add --placement"),
        (("--placement", "hexagon-v75", "--overlay", "a.txt"), "end its name in .json"),
        (("--placement", "hexagon-v75", "--overlay", "none/a.json"), "a folder that exists"),
    ],
)
def test_what_cannot_be_written_is_refused(hexagon_bundle: Bundle, arguments: tuple[str, ...], said: str) -> None:
    ended = invoke("inspect", str(hexagon_bundle.path(artifact_of(hexagon_bundle, "onnx", "int8"))), *arguments)
    assert ended.code == 2
    assert said in ended.said


@pytest.mark.integration
def test_formats_and_placements_without_a_graph_are_refused(
    image_bundle: Bundle, ethos_u_bundle: Bundle, tmp_path: Path
) -> None:
    overlay = str(tmp_path / "a.json")
    package = image_bundle.path(artifact_of(image_bundle, "coreml", "fp32"))
    ended = invoke("inspect", str(package), "--placement", "ane", "--overlay", overlay)
    assert (ended.code, "onnx and tflite files" in ended.said) == (2, True)
    ended = invoke("blame", str(package), "--overlay", overlay)
    assert (ended.code, "onnx and tflite files" in ended.said) == (2, True)
    file = ethos_u_bundle.path(artifact_of(ethos_u_bundle, "tflite", "int8"))
    ended = invoke("inspect", str(file), "--placement", "xnnpack", "--overlay", overlay)
    assert (ended.code, "where types of operators run" in ended.said) == (2, True)
    ended = invoke("inspect", str(ethos_u_bundle.root), "--placement", "xnnpack", "--overlay", overlay)
    assert (ended.code, "is a bundle" in ended.said) == (2, True)
