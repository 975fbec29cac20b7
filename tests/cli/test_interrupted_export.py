"""Exports that are killed, interrupted or meet another one: the bundle that stood there is whole at every moment."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.cli.app import EXIT_INTERRUPTED
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.cli.command_line import (
    CLASSES,
    COMMAND,
    EXPORT,
    FP16,
    FP32,
    CopyBundle,
    Outcome,
    edit_manifest,
    invoke,
    parsed,
    read_manifest,
    spawn,
    tree,
)
from tests.cli.dying_export import export_and_die
from tests.processes import Processes, eventually, forked
from tests.tiny import TRAINED

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]

AGAIN = (*EXPORT, "--overwrite")
PATIENCE_S = 300.0
"""On a busy machine, until an export gets to a moment that a test waits for."""

STEPS = {"conversion": "Converting to onnx", "verification": "Running onnx"}
"""The line on standard error when the command gets there; the commit is taken apart further down."""
Start = Callable[..., "subprocess.Popen[str]"]

WORKER, SIMPLIFIER = "cloformer_deploy.exporting.worker", "onnx.simplify"
"""Parts of the command lines of the processes that an export starts."""


@pytest.fixture
def start(processes: Processes) -> Start:
    """`start(*args)`: a command in a session of its own, whose standard error can be followed."""

    def started(*args: str) -> "subprocess.Popen[str]":
        return processes.start([*COMMAND, *args], stdin=subprocess.DEVNULL, start_new_session=True)

    return started


def follow(process: "subprocess.Popen[str]", text: str) -> None:
    """Read standard error until a line begins with the text."""
    assert process.stderr is not None
    assert any(line.startswith(text) for line in process.stderr), f"ended before {text!r}"


def end(process: "subprocess.Popen[str]") -> Outcome:
    stdout, stderr = process.communicate(timeout=120)
    return Outcome(process.returncode, stdout, stderr)


def listed(bundle: Path) -> dict[str, str]:
    return {item["path"]: item["sha256"] for item in read_manifest(bundle)["artifacts"]}


def staging(bundle: Path) -> list[Path]:
    return list(bundle.glob(".staging-*"))


def whole(bundle: Path) -> None:
    """Check that what the manifest lists is there, with its checksums."""
    shown = invoke("inspect", bundle)
    assert shown.code == 0, shown.said


def killed(process: "subprocess.Popen[str]", processes: Processes) -> None:
    process.kill()
    assert end(process).code == -signal.SIGKILL
    assert processes.gone()


def runs(part: str, processes: Processes) -> list[psutil.Process]:
    """The test's processes that have a text in their command lines."""
    found = []
    for process in processes.alive():
        with contextlib.suppress(psutil.Error):
            found += [process] if any(part in word for word in process.cmdline()) else []
    return found


def wait_for(part: str, processes: Processes) -> psutil.Process:
    """Wait until one of the test's processes has a text in its command line."""
    assert eventually(lambda: bool(runs(part, processes)), PATIENCE_S), f"{part} was never started"
    return runs(part, processes)[0]


MOMENTS: dict[str, Callable[[int, Path], bool]] = {
    "at once": lambda process, bundle: True,
    "while torch is imported": lambda process, bundle: "libtorch" in Path(f"/proc/{process}/maps").read_text(),
    "staging": lambda process, bundle: bool(staging(bundle)),
}
"""Moments before the conversion, and what tells that they have come."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_early(moment: str, exported: CopyBundle, start: Start, processes: Processes) -> None:
    bundle = exported()
    before = tree(bundle)
    process = start(*AGAIN)
    assert eventually(lambda: MOMENTS[moment](process.pid, bundle), PATIENCE_S)
    killed(process, processes)
    assert {name: what for name, what in tree(bundle).items() if not name.startswith(".staging-")} == before


@pytest.mark.parametrize("step", STEPS)
def test_killed(step: str, exported: CopyBundle, start: Start, processes: Processes) -> None:
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    follow(process, STEPS[step])
    killed(process, processes)
    whole(bundle)
    assert listed(bundle) == before
    assert staging(bundle)


def test_killed_in_the_middle_of_a_step_and_exported_again(
    exported: CopyBundle, tmp_path: Path, start: Start, processes: Processes
) -> None:
    """The simplifier, a process of the worker's own, ends with them; the next export sweeps up and succeeds."""
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    simplifier = wait_for(SIMPLIFIER, processes)
    simplifier.suspend()  # as if it took its time
    process.kill()
    assert end(process).code == -signal.SIGKILL
    simplifier.resume()
    assert processes.gone()
    whole(bundle)
    assert listed(bundle) == before
    assert staging(bundle)
    again = spawn(*AGAIN, "--json", cwd=tmp_path)
    assert again.code == 0, again.stderr
    assert parsed(again.stdout)["artifacts"][0]["path"] == FP32
    assert staging(bundle) == []
    assert set(listed(bundle)) == set(before)
    whole(bundle)


@pytest.mark.parametrize("group", [False, True], ids=["process", "terminal"])
@pytest.mark.parametrize("output", ["bundle", "new/one"])
def test_interrupted(
    output: str, group: bool, exported: CopyBundle, tmp_path: Path, start: Start, processes: Processes
) -> None:
    """Ctrl-C reaches the whole group; `kill -INT` one process."""
    exported()
    before = tree(tmp_path)
    process = start(*EXPORT[:-1], output, "--overwrite")
    wait_for(WORKER, processes)
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.code == EXIT_INTERRUPTED == 130
    assert "Traceback" not in ended.stderr
    assert "Interrupted" in ended.stderr
    assert ended.stdout == ""
    assert tree(tmp_path) == before
    assert processes.gone()


def test_terminated(exported: CopyBundle, start: Start, processes: Processes) -> None:
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    wait_for(WORKER, processes)
    process.terminate()
    ended = end(process)
    assert ended.code == EXIT_INTERRUPTED
    assert "Traceback" not in ended.stderr
    assert processes.gone()
    whole(bundle)
    assert listed(bundle) == before
    assert staging(bundle) == []


@pytest.mark.parametrize("output", ["bundle", "new/one"])
def test_two_at_once(output: str, exported: CopyBundle, tmp_path: Path, start: Start, processes: Processes) -> None:
    """Both want the same folder at the same time, one that is there and one that neither finds; one gets it."""
    exported()
    before = tree(tmp_path)
    both = [start(*EXPORT[:-1], output, "--overwrite") for _ in range(2)]
    assert eventually(lambda: any(process.poll() is not None for process in both), PATIENCE_S)
    (refused,) = (process for process in both if process.poll() is not None)
    (first,) = (process for process in both if process is not refused)
    answer = end(refused)
    assert answer.code == 2, answer.stderr
    assert "another export is writing" in answer.stderr
    assert "Next:" in answer.stderr
    assert output in answer.stderr
    if output == "bundle":
        first.send_signal(signal.SIGINT)
        assert end(first).code == EXIT_INTERRUPTED
        assert tree(tmp_path) == before
    else:
        assert end(first).code == 0
        whole(tmp_path / output)
    assert staging(tmp_path / output) == []
    assert processes.gone()


# Killed before each single change to the file system, from the first folder to the last file removed.


@pytest.mark.parametrize("change", ["none", "labels", "weights"])
def test_killed_before_each_operation(change: str, exported_bundle: Path, tmp_path: Path) -> None:
    """The same again; other labels under the same weights, whose copy has the same name; other weights."""
    made = exported_bundle / FP32
    args = list(AGAIN)
    if change == "labels":
        (tmp_path / "names.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
        args += ["--labels", "names.txt"]
    bundle = tmp_path / "bundle"
    load_checkpoint(TRAINED)  # whose shapes a process finds once: the forked ones need not
    for operation in range(40):
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(exported_bundle, bundle, copy_function=os.link)
        if change == "weights":
            rename_weights(bundle)
        code = forked(partial(export_and_die, made, operation, args))
        assert code in (0, -signal.SIGKILL)
        Bundle.open(bundle).verify()
        if code == 0:
            break
    else:
        pytest.fail("never done")
    assert operation >= 6
    whole(bundle)
    assert staging(bundle) == []
    left = {FP32} | ({FP16} if change == "none" else set())
    assert set(listed(bundle)) == left
    assert {path.name for path in bundle.iterdir()} == left | {
        "manifest.json",
        read_manifest(bundle)["weights"]["file"],
    }


def test_a_process_of_its_own_is_killed_as_a_forked_one_is(exported_bundle: Path, tmp_path: Path) -> None:
    bundle, made = tmp_path / "bundle", exported_bundle / FP32
    left = {}
    for name in ("forked", "spawned"):
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(exported_bundle, bundle, copy_function=os.link)
        if name == "forked":
            code = forked(partial(export_and_die, made, 5, AGAIN))
        else:
            command = [sys.executable, "-m", "tests.cli.dying_export", str(made), "5", *AGAIN]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            code = subprocess.run(command, env=env, capture_output=True, check=False).returncode
        assert code == -signal.SIGKILL
        whole(bundle)
        left[name] = (listed(bundle), len(staging(bundle)))
    assert left["forked"] == left["spawned"]


def rename_weights(bundle: Path) -> None:
    """Make the bundle look as if it had been made from other weights."""
    old = read_manifest(bundle)["weights"]["file"]
    (bundle / old).rename(bundle / "weights-other.safetensors")
    edit_manifest(bundle, lambda m: m["weights"].update(file="weights-other.safetensors", sha256="5" * 64))
