r"""Paths whose bytes are not UTF-8: every command answers, and shows them as `\xff`."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.bundle import MANIFEST_NAME
from tests.cli.command_line import FP32, CopyBundle, invoke, parsed, spawn
from tests.cli.noise import write
from tests.tiny import TRAINED, TRAINED_SIDE

pytestmark = pytest.mark.integration

NAME = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"
STRICT = {"PYTHONIOENCODING": "utf-8:strict"}


@pytest.mark.parametrize(
    "args",
    [
        ("inspect", f"{NAME}.onnx"),
        ("inspect", NAME),
        ("validate", NAME),
        ("gate", NAME),
        ("bench", NAME),
        ("report", NAME),
        ("blame", f"{NAME}.onnx"),
        ("calibrate", NAME, "--output", f"{NAME}.safetensors"),
        ("export", "--weights", NAME),
        ("export", "--labels", NAME),
        ("export", "--architecture", NAME),
        ("export", "--precision", "int8", "--calibration", NAME),
        ("export", "--precision", "int8", "--max-drop", "1", "--data", NAME),
    ],
    ids=lambda args: " ".join(args).replace(NAME, "NAME"),
)
def test_what_is_missing_is_named(args: tuple[str, ...]) -> None:
    done = invoke(*args)
    assert done.code == 2
    assert SHOWN in done.said
    answer = parsed(invoke(*args, "--json").stdout)["error"]
    assert SHOWN in answer["message"] + answer["hint"]


def test_what_the_command_line_itself_refuses() -> None:
    done = spawn("inspect", "a", f"--{NAME}", cwd=Path(), env=STRICT)
    assert done.code == 2
    assert SHOWN in done.said


def test_answers(exported: CopyBundle, tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    """Commands read a bundle and images with such names, and write reports; all that is written is UTF-8.

    It takes the time of four commands that run the bundle's files.
    """
    bundle = exported(NAME)
    labels = json.loads((bundle / MANIFEST_NAME).read_text())["labels"]
    write(tmp_path / f"data-{NAME}", pixels[: len(labels)], labels)
    data = ("--data", f"data-{NAME}")
    assert SHOWN in invoke("inspect", NAME).said
    assert SHOWN in invoke("inspect", Path(NAME, FP32)).said
    checked = parsed(invoke("validate", NAME, *data, "--json").stdout)
    assert checked["artifacts"][0]["status"] == "passed"
    (tmp_path / f"{NAME}.toml").write_text("")
    files = ("--junit", f"{NAME}.xml", "--summary", f"{NAME}.md", "--config", f"{NAME}.toml", "--cache", f"c-{NAME}")
    judged = invoke("gate", NAME, *data, *files, "--json")
    assert judged.code in (0, 1), judged.stderr
    assert SHOWN in parsed(judged.stdout)["images"]
    ET.parse(tmp_path / f"{NAME}.xml")
    assert (tmp_path / f"{NAME}.md").read_text("utf-8")
    made = invoke("report", NAME, *data, "--output", f"{NAME}.html")
    assert SHOWN in made.said, made.stderr
    assert f"data-{SHOWN}" in (tmp_path / f"{NAME}.html").read_text("utf-8")


def test_export(tmp_path: Path) -> None:
    """Weights, labels and output: the files are as of other names. It takes the time of an export."""
    (tmp_path / f"{NAME}.safetensors").write_bytes(TRAINED.read_bytes())
    (tmp_path / NAME).write_text("\n".join(f"{index} 👩\u200d👧 \u202e" for index in range(20, 40)))
    given = ("--weights", f"{NAME}.safetensors", "--labels", NAME, "--input-size", TRAINED_SIDE, "--format", "onnx")
    done = spawn("export", *given, "--output", f"out-{NAME}", "--json", cwd=tmp_path, env=STRICT)
    assert done.code == 0, done.stderr
    assert f"out-{SHOWN}" in parsed(done.stdout)["bundle"]
    manifest = json.loads((tmp_path / f"out-{NAME}" / MANIFEST_NAME).read_text("utf-8"))
    assert manifest["weights"]["name"] == SHOWN
    assert manifest["labels"][0] == "20 👩\u200d👧 \u202e"
    names = {path.name for path in (tmp_path / f"out-{NAME}").iterdir()}
    assert names == {FP32, MANIFEST_NAME, manifest["weights"]["file"]}
    assert "\u202e" not in spawn("inspect", f"out-{NAME}/{FP32}", cwd=tmp_path, env=STRICT).stdout
