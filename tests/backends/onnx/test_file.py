"""ONNX files that would have a runtime read other files are refused, wherever in the model the reference is."""

from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.errors import BundleError, ToolError
from tests.backends.onnx.outside import LOCATIONS, PLACES, model_with
from tests.cli.command_line import save, small_model


@pytest.mark.parametrize("place", PLACES)
def test_tensors_in_other_files_are_found_everywhere(tmp_path: Path, place: str) -> None:
    np.zeros(3, np.float32).tofile(tmp_path / "weights.bin")  # it would load
    path = save(model_with(place, "weights.bin"), tmp_path / "a.onnx")
    with pytest.raises(BundleError) as caught:
        load_model(path)
    assert "of its weights in other files" in caught.value.message
    assert ("no name" if place == "initializer-without-a-location" else "weights.bin") in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("location", LOCATIONS)
def test_wherever_they_are(tmp_path: Path, location: str) -> None:
    (tmp_path / "folder").mkdir()
    np.zeros(3, np.float32).tofile(tmp_path / "weights.bin")
    (tmp_path / "folder" / "link").symlink_to("../weights.bin")
    path = save(model_with("attribute", location), tmp_path / "folder" / "a.onnx")
    with pytest.raises(BundleError, match=r"a\.onnx keeps 1 tensor of its weights in other files: ") as caught:
        load_model(path)
    assert location in caught.value.message


def test_a_name_from_the_file_is_shown_safely(tmp_path: Path) -> None:
    path = save(model_with("initializer", "\x1b[2J" + "x" * 1000), tmp_path / "a.onnx")
    with pytest.raises(BundleError) as caught:
        load_model(path)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("place", PLACES)
def test_every_reader_of_the_format_refuses_them(tmp_path: Path, place: str) -> None:
    path = save(model_with(place, "/etc/passwd"), tmp_path / "a.onnx")
    backend = BACKENDS["onnx"]
    assert backend.opener.check is not None
    for read in (backend.describe, backend.open_tensors, runtime_for("onnx").open, backend.opener.check):
        with pytest.raises(BundleError, match="in other files"):
            read(path)


def test_a_damaged_file_is_another_matter_for_bench(tmp_path: Path) -> None:
    """One such file fails, and the others are measured."""
    path = tmp_path / "a.onnx"
    path.write_bytes(save(small_model(), path).read_bytes()[:-9])
    check = BACKENDS["onnx"].opener.check
    assert check is not None
    with pytest.raises(ToolError, match="not a readable ONNX model"):
        check(path)


def test_a_file_on_its_own_is_read(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path / "a.onnx")
    assert load_model(path).graph.node
