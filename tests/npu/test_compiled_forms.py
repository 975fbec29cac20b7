"""`export --compile-for`: the compiled form of a file for an NPU is kept in the bundle, listed and checked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.tflite.describe import operator_name
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import CompiledFile
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.errors import BundleError
from cloformer_deploy.npu import npu_of
from tests.artifacts import artifact_of
from tests.cli.command_line import invoke
from tests.tiny import TRAINED_SIDE


def kept(bundle: Bundle, device: str, precision: str = "int8") -> CompiledFile:
    """The compiled form of an artifact; the others that the export asked have none."""
    (artifact,) = (item for item in bundle.manifest.artifacts if item.precision == precision)
    assert artifact.npus is not None
    assert [check.device for check in artifact.npus if check.file is not None] == [device]
    (found,) = (check.file for check in artifact.npus if check.file is not None)
    return found


@pytest.mark.integration
def test_a_context_binary_computes_the_same_in_the_simulator(hexagon_bundle: Bundle) -> None:
    file = kept(hexagon_bundle, "hexagon-v73")
    path = hexagon_bundle.root / file.path
    assert file.path == "cloformer_custom-int8-hexagon-v73.onnx"
    assert (file.sha256, file.bytes) == (digest(path), path.stat().st_size)
    pixels = probe_images(2, Preprocessing.published(TRAINED_SIDE, TRAINED_SIDE))
    feed = {INPUT_NAME: hexagon_bundle.manifest.preprocessing.normalize(pixels)}
    simulator = npu_of("hexagon-v73").simulator
    assert simulator is not None
    source = hexagon_bundle.path(artifact_of(hexagon_bundle, "onnx", "int8"))
    expected, found = (simulator.open(item).run(feed) for item in (source, path))
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert np.abs(found["logits"]).max() > 0.1
    assert kept(hexagon_bundle, "hexagon-v73", "w8a16").sha256 != file.sha256


@pytest.mark.integration
def test_what_vela_made_has_one_operator_and_both_interfaces(ethos_u_bundle: Bundle) -> None:
    file = kept(ethos_u_bundle, "ethos-u55-256")
    assert file.path == "cloformer_custom-int8-ethos-u55-256.tflite"
    model = load_model(ethos_u_bundle.root / file.path)
    (graph,) = model.subgraphs
    names = [operator_name(model.operatorCodes[item.opcodeIndex]) for item in graph.operators]
    assert names == ["CUSTOM:ethos-u"]


@pytest.mark.integration
def test_a_compiled_form_that_was_changed_or_is_missing_is_an_error(hexagon_bundle: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(hexagon_bundle.root, tmp_path / "bundle")
    path = copy / kept(hexagon_bundle, "hexagon-v73").path
    Bundle.open(copy).verify()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="its sha256 differs"):
        Bundle.open(copy).verify()
    path.unlink()
    with pytest.raises(BundleError, match="listed in the manifest but missing"):
        Bundle.open(copy).verify()


@pytest.mark.integration
def test_inspect_names_it(ethos_u_bundle: Bundle) -> None:
    shown = invoke("inspect", str(ethos_u_bundle.root))
    assert "kept as cloformer_custom-int8-ethos-u55-256.tflite" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compile-for", "hexagon-v75"), "none of the files is for Hexagon V75"),
        (("--compile-for", "hexagon-v74"), "the NPU 'hexagon-v74' is not known"),
        (("--format", "onnx", "--target", "hexagon", "--compile-for", "hexagon-v75"), "--precision int8"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_any_work(arguments: tuple[str, ...], said: str) -> None:
    ended = invoke("export", *arguments)
    assert ended.code == 2
    assert said in ended.said
