"""`--workers`: the same answers from a Ray cluster, with a node killed, and from nodes that see none of the files.

Tests on real nodes take ten seconds and more, most of it for starting Ray, and PyTorch in its workers: nothing less
shows that a lost node, another version or a missing file leaves the answer as it is.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.cli.app import EXIT_INTERRUPTED
from tests.cli.command_line import COMMAND, CopyBundle, Outcome, edit_manifest, hide, invoke, spawn
from tests.cli.conftest import copier
from tests.cli.limited import INT8, calibration, save_images
from tests.cli.noise import write
from tests.processes import Processes
from tests.ray_nodes import RayCluster

COUNT = 6 * 16


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A cluster with the node `one`; it takes ten seconds to start."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    started = None
    try:
        started = RayCluster(folder, str(folder))
        started.add("one")
        yield started
    finally:
        if started is not None:
            started.end()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def folder(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny weights in int8 in all formats, `bundle`, and unlabeled images, `data`."""
    made = tmp_path_factory.mktemp("workers")
    bundle = copier(tiny_bundle.root, made)()
    edit_manifest(
        bundle, lambda listed: listed.update(artifacts=[a for a in listed["artifacts"] if a["precision"] == "int8"])
    )
    pixels = np.random.default_rng(3).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    write(made / "data", pixels.repeat(8, axis=1).repeat(8, axis=2), [""] * COUNT)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path) -> str:
    """The answer of `validate` without other workers."""
    alone = spawn("validate", "bundle", "--data", "data", "--json", cwd=folder)
    assert alone.code in (0, 1), alone.stderr
    assert alone.stdout.count('"onnx"') == alone.stdout.count('"coreml"') == alone.stdout.count('"tflite"') == 1
    return alone.stdout


def follow(processes: Processes, cluster: RayCluster, folder: Path, *args: str) -> "subprocess.Popen[str]":
    """Start `validate` on the cluster, and return once some images are done."""
    command = [*COMMAND, "validate", "bundle", "--data", "data", "--workers", f"ray:{cluster.address}", *args]
    process = processes.start(command, cwd=folder, env={**os.environ, **cluster.environment}, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Comparing"):
            break
    next(line for line in process.stderr if re.match(r" +\d+ of \d+$", line))
    return process


@pytest.mark.integration
def test_a_killed_node_costs_its_shards_only(
    cluster: RayCluster, folder: Path, expected: str, processes: Processes
) -> None:
    cluster.add("lost")
    process = follow(processes, cluster, folder, "--json")
    cluster.kill("lost")
    answer, told = process.communicate(timeout=300)
    assert answer == expected
    assert "Warning: worker lost is lost: its shards are run again on other nodes" in told


@pytest.mark.integration
def test_a_node_that_sees_no_file_gives_the_same(cluster: RayCluster, folder: Path, expected: str) -> None:
    """Its two workers share the copy that they are sent, and keep none."""
    cluster.kill("one")
    cluster.add("blind", cores=2, hidden=(folder,))
    shown = spawn(
        *("validate", "bundle", "--data", "data", "--json", "--workers", f"ray:{cluster.address}"),
        cwd=folder,
        env=cluster.environment,
    )
    assert shown.stdout == expected
    assert "does not see data as it is here: images are sent to it" in shown.stderr
    assert "does not see bundle as it is here: its files are sent to it" in shown.stderr
    kept = [path.name for path in Path(tempfile.gettempdir()).iterdir()]
    assert [name for name in kept if re.match("cloformer-deploy-[0-9a-f]{32}", name)] == []


@pytest.fixture(scope="module")
def searched(folder: Path) -> tuple[tuple[str, ...], Outcome]:
    """A search for blocks that stay float, with its answer without other workers."""
    save_images(folder / "labeled", "validation", 40, 1.0)
    clipping = calibration(folder / "clipping", 0.5, 8)
    asked = (*INT8, "--calibration", str(clipping), "--data", str(folder / "labeled"), "--max-drop", "0")
    (folder / "alone").mkdir()
    return asked, spawn(*asked, cwd=folder / "alone")


def same_search(shown: Outcome, expected: Outcome) -> None:
    assert shown.code == 0, shown.stderr
    assert shown.stdout == expected.stdout
    assert json.loads(shown.stdout)["artifacts"][0]["excluded_layers"]


@pytest.mark.integration
def test_a_search_on_a_node_that_sees_no_file(
    cluster: RayCluster, folder: Path, searched: tuple[tuple[str, ...], Outcome]
) -> None:
    """It is sent each candidate, and told of that once."""
    (folder / "unseen").mkdir()
    workers = ("--workers", f"ray:{cluster.address}")
    shown = spawn(*searched[0], *workers, cwd=folder / "unseen", env=cluster.environment)
    same_search(shown, searched[1])
    assert shown.stderr.count("images are sent to it") == shown.stderr.count("its files are sent to it") == 1


@pytest.mark.integration
def test_a_search_on_ray_on_this_machine(folder: Path, searched: tuple[tuple[str, ...], Outcome]) -> None:
    (folder / "seen").mkdir()
    shown = spawn(*searched[0], "--workers", "ray", cwd=folder / "seen")
    same_search(shown, searched[1])
    assert "sent" not in shown.stderr


@pytest.mark.integration
def test_nodes_with_another_version_of_a_runtime_are_refused(cluster: RayCluster, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "onnxruntime-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.0\n")
    cluster.add("old", env={"PYTHONPATH": str(tmp_path)})
    try:
        shown = spawn("validate", "bundle", "--workers", f"ray:{cluster.address}", cwd=folder, env=cluster.environment)
    finally:
        cluster.kill("old")
    assert shown.code == 3
    assert re.search(r"results of worker old would differ, for it has ONNX Runtime \(CPU\) 1\.0, here 1\.", shown.said)
    assert shown.stdout == ""


@pytest.mark.integration
def test_ray_on_this_machine_interrupted(folder: Path, processes: Processes) -> None:
    command = [*COMMAND, "validate", "bundle", "--workers", "ray"]
    process = processes.start(command, cwd=folder, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Asking"):
            break
    process.send_signal(signal.SIGINT)
    answer, told = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, told
    assert answer == ""
    assert "Traceback" not in told
    assert processes.gone()
    assert not list(Path("/tmp").glob(f"ray-*/session_*_{process.pid}"))


@pytest.mark.integration
def test_gate_on_ray(folder: Path, tmp_path: Path) -> None:
    common = ("gate", "bundle", "--data", "data", "--limit", "40", "--no-cache", "--json")
    alone, shared = (spawn(*common, *more, cwd=folder) for more in ((), ("--workers", "ray")))
    assert shared.stdout == alone.stdout
    assert shared.code == alone.code in (0, 1)


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("dask", 2, "the workers 'dask' are not known"),
        ("ray:", 2, "the workers 'ray:' are not known"),
        ("ray:machine", 2, "'machine' is no address of a Ray cluster"),
        ("ray:127.0.0.1:99999", 4, "no Ray cluster answers at 127.0.0.1:99999"),
        ("ray:127.0.0.1:1", 4, "no Ray cluster answers at 127.0.0.1:1: "),
    ],
)
def test_workers_that_are_not_there(name: str, code: int, told: str, drafted: CopyBundle) -> None:
    drafted()
    shown = invoke("validate", "bundle", "--workers", name)
    assert shown.code == code
    assert told in shown.said
    assert shown.stdout == ""


def test_ray_is_not_installed(drafted: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted()
    hide(monkeypatch, "ray")
    shown = invoke("validate", "bundle", "--workers", "ray")
    assert shown.code == 3
    assert "pip install 'cloformer-deploy[ray]'" in shown.said
