"""Helpers that run the command line, in this process or a new one, and read what it left on disk."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from cloformer_deploy.bundle import MANIFEST_NAME, digest, size_bytes
from cloformer_deploy.cli.app import app
from cloformer_deploy.system.packages import installed_version
from tests.tiny import TRAINED, TRAINED_SIDE

CopyBundle = Callable[..., Path]
"""`copy(name="bundle")`: a copy of a bundle in the test's folder."""
COMMAND = (sys.executable, "-m", "cloformer_deploy")
CLASSES = 20
"""Classes of the bundled weights, of the tiny ones and of the drafted bundle."""
EXPORT = (
    *("export", "--format", "onnx", "--weights", str(TRAINED), "--input-size", str(TRAINED_SIDE), "--output", "bundle"),
)
"""Exports what `exported_bundle` is."""
FP32, FP16 = "cloformer_custom-fp32.onnx", "cloformer_custom-fp16.onnx"
"""The artifacts of `exported_bundle`."""
FAVORITE = 6


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Both streams as running text, without boxes and line breaks."""
        return " ".join(re.sub(r"[─-╿]", " ", f"{self.stdout}\n{self.stderr}").split())


def invoke(*args: object) -> Outcome:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="cloformer-deploy")
    return Outcome(result.exit_code, result.stdout, result.stderr)


def spawn(*args: object, cwd: Path, env: Mapping[str, str] | None = None) -> Outcome:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *(str(arg) for arg in args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""

    def find(name: str) -> ModuleSpec | None:
        return None if name in names else find_spec(name)

    def version(name: str) -> str | None:
        return None if name in names else installed_version(name)

    monkeypatch.setattr("cloformer_deploy.system.packages.find_spec", find)
    monkeypatch.setattr("cloformer_deploy.doctor.installed_version", version)


def parsed(stdout: str) -> Any:
    """Parse standard output as one JSON document; NaN and Infinity are rejected."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(stdout, parse_constant=refuse)


def tree(root: Path) -> dict[str, str]:
    """Return everything below a folder: sha256 of files, targets of links, folders."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            what = f"link to {path.readlink()}"
        elif path.is_dir():
            what = "folder"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "something else"
        found[path.relative_to(root).as_posix()] = what
    return found


def put(path: Path, content: bytes) -> Path:
    """Replace a file. Copies of bundles are hard links, so that nothing may be written in place."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def read_manifest(bundle: Path) -> dict[str, Any]:
    """Return a bundle's manifest as parsed JSON, unchecked."""
    manifest: dict[str, Any] = json.loads((bundle / MANIFEST_NAME).read_text())
    return manifest


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest."""
    manifest = read_manifest(bundle)
    edit(manifest)
    put(bundle / MANIFEST_NAME, json.dumps(manifest).encode())


def relist(bundle: Path) -> None:
    """Update the artifacts' checksums in the manifest, as after careful tampering."""

    def update(manifest: dict[str, Any]) -> None:
        for item in manifest["artifacts"]:
            path = bundle / item["path"]
            item.update(sha256=digest(path), bytes=size_bytes(path))

    edit_manifest(bundle, update)


def small_model(classes: int = CLASSES, weight: float = 0.01, metadata: Mapping[str, str] | None = None) -> Any:
    """Return a few bytes of ONNX with the interface of an artifact: mean colors through one linear layer.

    The largest logit is always that of `FAVORITE`.
    """
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colors"]),
        helper.make_node("Gemm", ["colors", "weight", "bias"], ["logits"]),
    ]
    values = [weight * (index % 7) for index in range(3 * classes)]
    bias = [weight * 1000 if index == FAVORITE % classes else 0.0 for index in range(classes)]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, [3, classes], values),
            helper.make_tensor("bias", TensorProto.FLOAT, [classes], bias),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    return model


def save(model: Any, path: Path) -> Path:
    """Write an ONNX model."""
    return put(path, model.SerializeToString())
