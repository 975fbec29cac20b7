"""A bundle of a network of one's own: every command takes it without the network's code, and planted faults fail it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cloformer_deploy import export
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.data import Preprocessing, RenderedImages, make_calibration
from cloformer_deploy.errors import BundleError, RequestError, UnsupportedModelError
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation.bundle_work import reference_model
from tests.cli.command_line import Outcome, invoke, parsed
from tests.once import made_once
from tests.own.copies import PluginBlock
from tests.own.networks import NETWORKS, SIDE, Around, LayerScale, YoloNeck, example, network, trained

pytestmark = pytest.mark.integration

LEAST_FP32_DB = 110.0
LEAST_INT8_DB = 25.0


def answer(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.said
    return parsed(outcome.stdout)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, without classes: rendered ones."""

    def make(folder: Path) -> None:
        rendered = RenderedImages("train", range(24), labeled=False)
        preprocessing = Preprocessing.published(SIDE, SIDE, margin=False)
        pixels = np.concatenate([batch.pixels for batch in rendered.batches(preprocessing, 8)])
        for index, item in enumerate(pixels):
            Image.fromarray(item.transpose(1, 2, 0)).save(folder / f"{index}.png")

    return made_once(tmp_path_factory, "own-images", make)


@pytest.fixture(scope="session")
def neck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YOLO-style neck in all formats, fp32; its normalization is given."""

    def make(folder: Path) -> None:
        given = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        made = export(network("neck"), example(), folder / "bundle", **given)  # type: ignore[arg-type]
        (folder / "checks.json").write_text(json.dumps({name: item.sqnr_db for name, item in made.checks.items()}))

    return made_once(tmp_path_factory, "own-neck", make)


@pytest.fixture
def copied(neck: Path, tmp_path: Path) -> Path:
    shutil.copytree(neck / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_files_of_every_format_compute_what_the_network_does(neck: Path) -> None:
    checks = json.loads((neck / "checks.json").read_text())
    assert {Path(name).suffix for name in checks} == {".onnx", ".mlpackage", ".tflite"}
    assert min(checks.values()) >= LEAST_FP32_DB
    manifest = Bundle.open(neck / "bundle").manifest
    assert (manifest.task, manifest.network, manifest.assumed) == ("tensors", "program", ())
    assert manifest.architecture["outputs"] == (("p3", 4), ("p4", 4), ("p5", 4))
    assert all([item.name for item in each.outputs] == ["p3", "p4", "p5"] for each in manifest.artifacts)


def test_the_reference_is_the_network_as_written(neck: Path) -> None:
    model = reference_model(Bundle.open(neck / "bundle"))
    with torch.no_grad():
        for ours, theirs in zip(model(example(batch=3)), network("neck")(example(batch=3)).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_every_command_takes_the_bundle(neck: Path, images: Path, tmp_path: Path) -> None:
    bundle = neck / "bundle"
    validated = answer(invoke("validate", bundle, "--data", images, "--json"))
    assert (validated["task"], validated["metric"], validated["reference"]["n"]) == ("tensors", None, 24)
    assert [item["status"] for item in validated["artifacts"]] == ["passed"] * 3
    assert all(item["sqnr_db"] >= LEAST_FP32_DB and item["cosine_min"] > 0.99999 for item in validated["artifacts"])
    assert all(item["thresholds"]["cosine_min"] == 0.99999 for item in validated["artifacts"])
    base = ("--baseline", tmp_path / "base.json", "--no-cache")
    assert invoke("gate", bundle, "--data", images, *base, "--update-baseline").code == 0
    assert answer(invoke("gate", bundle, "--data", images, *base, "--json"))["passed"]
    inspected = answer(invoke("inspect", bundle / "cloformer_custom-fp32.onnx", "--json"))
    assert [item["name"] for item in inspected["outputs"]] == ["p3", "p4", "p5"]
    blamed = answer(invoke("blame", bundle / "cloformer_custom-fp32.onnx", "--limit", "4", "--json"))
    names = {item["path"] for item in blamed["layers"]}
    assert {"attention.0.global_q", "merge.1.conv"} <= names, names
    assert not blamed["findings"]
    assert invoke("report", bundle, "--output", tmp_path / "report.html").code == 0


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".mlpackage"])
def test_a_planted_change_fails_the_gate(copied: Path, suffix: str) -> None:
    """Some weights of one layer are made 1.5 times as large, and the manifest has the new checksum."""
    path = copied / f"cloformer_custom-fp32{suffix}"
    file = path / "Data/com.apple.CoreML/weights/weight.bin" if path.is_dir() else path
    content = bytearray(file.read_bytes())
    weights = network("neck").state_dict()["attention.1.proj.weight"].numpy()
    row = np.ascontiguousarray(weights[3].reshape(-1))[:16].tobytes()
    place = bytes(content).find(row)
    assert place > 0
    content[place : place + len(row)] = (1.5 * np.frombuffer(row, np.float32)).tobytes()
    file.write_bytes(content)
    manifest = json.loads((copied / "manifest.json").read_text())
    for item in manifest["artifacts"]:
        if item["path"] == path.name:
            item["sha256"] = digest(path)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    outcome = invoke("gate", copied, "--no-cache", "--json")
    assert outcome.code == 1, outcome.said
    failed = [item["path"] for item in parsed(outcome.stdout)["artifacts"] if item["status"] == "failed"]
    assert failed == [path.name]


def test_a_reference_of_another_checksum_is_refused(copied: Path) -> None:
    (program,) = copied.glob("weights-*.pt2")
    program.write_bytes(program.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="sha256 differs"):
        reference_model(Bundle.open(copied))
    for command in ("validate", "gate"):
        assert invoke(command, copied).code == 2


def test_int8_of_a_folder_of_images(images: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "calibration.safetensors"
    preprocessing = Preprocessing.published(SIDE, SIDE, margin=False)
    make_calibration(str(images), 256, 0, preprocessing, calibration, Silent())
    said: list[str] = []

    class Telling(Silent):
        def warn(self, text: str) -> None:
            said.append(text)

    block = trained(PluginBlock(64, 64, 1))
    inner = nn.Sequential(block, nn.ConvTranspose2d(64, 64, 2, 2), nn.MaxPool2d(2), LayerScale(64))
    made = export(
        Around(inner),
        example(),
        tmp_path / "bundle",
        formats=("onnx",),
        precisions=("int8",),
        calibration=images,
        progress=Telling(),
    )
    assert made.checks["cloformer_custom-int8.onnx"].sqnr_db >= LEAST_INT8_DB
    assert any("stay float" in text and "conv_transpose2d (1)" in text for text in said), said
    operators = answer(invoke("inspect", tmp_path / "bundle/cloformer_custom-int8.onnx", "--json"))["operators"]
    assert operators["QuantizeLinear"] > 10
    given = ("--calibration", calibration, "--limit", 2, "--json")
    blamed = answer(invoke("blame", tmp_path / "bundle/cloformer_custom-int8.onnx", *given))
    assert {"inner.0.mlp.fc1", "inner.0.attn.qkvs.0"} <= {item["path"] for item in blamed["layers"]}


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_of_the_three_networks_in_every_format(name: str, images: Path, tmp_path: Path) -> None:
    """Ten seconds each: the promise for networks of one's own."""
    made = export(network(name), example(), tmp_path / "bundle", precisions=("int8",), calibration=images)
    assert len(made.checks) == 3
    assert min(check.sqnr_db for check in made.checks.values()) >= LEAST_INT8_DB


def test_a_limit_of_the_largest_difference(neck: Path, tmp_path: Path) -> None:
    config = tmp_path / "drift.toml"
    given = ("--config", config, "--data", tmp_path, "--json")
    Image.new("RGB", (SIDE, SIDE), "orange").save(tmp_path / "image.png")
    for limit, code in ((1e-9, 1), (1.0, 0)):
        config.write_text(f"[defaults]\nmax_abs_diff = {limit}\n")
        outcome = invoke("gate", neck / "bundle", *given)
        assert outcome.code == code, outcome.said
        checks = [check for item in parsed(outcome.stdout)["artifacts"] for check in item["checks"]]
        found = {check["name"]: check["outcome"] for check in checks}
        assert found["max_abs_diff"] == ("failed" if code else "passed")


def test_a_labeled_task_of_ours(images: Path, tmp_path: Path) -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3, 4), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.conv(x).relu().mean((2, 3)))
            return logits

    names = [f"class {index}" for index in range(10)]
    made = export(Classifier(), example(), tmp_path / "bundle", formats=("onnx",), task="classification", labels=names)
    manifest = made.bundle.manifest
    assert (manifest.task, manifest.num_classes, manifest.labels) == ("classification", 10, tuple(names))
    assert manifest.assumed
    assert answer(invoke("validate", tmp_path / "bundle", "--json"))["task"] == "classification"


def test_requests_that_cannot_be_met_leave_nothing_behind(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with pytest.raises(UnsupportedModelError, match="3 outputs"):
        export(YoloNeck(), example(), output, task="classification")
    with pytest.raises(RequestError, match="no format"):
        export(nn.Conv2d(3, 4, 1), example(), output, formats=("caffe",))
    with pytest.raises(RequestError, match="calibration"):
        export(nn.Conv2d(3, 4, 1), example(), output, formats=("onnx",), precisions=("int8",))
    with pytest.raises(RequestError, match="multiple of 32"):
        export(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 48, 64), output, formats=("onnx",))
    assert not output.exists()
