"""Exports that are killed, interrupted or meet another one: the bundle that stood there is whole at every moment."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloformer_deploy.cli.app import EXIT_INTERRUPTED
from tests.cli.command_line import (
    CLASSES,
    COMMAND,
    CopyBundle,
    Outcome,
    edit_manifest,
    invoke,
    parsed,
    read_manifest,
    spawn,
    tree,
)

pytestmark = pytest.mark.integration

MARK = "CLOFORMER_DEPLOY_TEST"
"""An environment variable that a test's processes inherit, by which the survivors are found."""
AGAIN = ("export", "--format", "onnx", "--output", "bundle", "--overwrite")
GRACE_S = 6.0

STEPS = {"conversion": "Converting to onnx", "verification": "Running onnx", "commit": "Writing the bundle"}
"""What the command says on standard error when it gets there."""

DIES_AT = """
import os, pathlib, shutil, signal, sys
import cloformer_deploy.export.pipeline as pipeline
from cloformer_deploy.cli import main
from cloformer_deploy.export.jobs import Check

made, left = sys.argv[1], int(sys.argv[2])
sys.argv = ["cloformer-deploy", *sys.argv[3:]]

def convert(job, progress):
    for precision, path in job.outputs.items():
        shutil.copy(made, path)
        yield Check(precision=precision, runtime="none", n=1, max_abs_diff=0.0, sqnr_db=99.0)

def counted(operation):
    def run(*args, **values):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return operation(*args, **values)
    return run

pipeline.run = lambda jobs, progress: [list(convert(job, progress)) for job in jobs]
for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
main()
"""
"""An export whose converter only copies a file, killed before its n-th change to the file system."""


@pytest.fixture(autouse=True)
def survivors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mark the test's processes, and end after it those that should have ended themselves."""
    monkeypatch.setenv(MARK, tmp_path.name)
    yield
    for process in alive(tmp_path.name):
        os.kill(process, signal.SIGKILL)


def alive(mark: str) -> list[int]:
    """The processes other than this one that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it ended meanwhile
            continue
        if f"{MARK}={mark}".encode() in environment and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def gone(mark: str) -> bool:
    """Whether all marked processes end within the time of grace."""
    deadline = time.monotonic() + GRACE_S
    while alive(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A test run in the background of a shell ignores SIGINT, and so would the commands it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(*args: str) -> "subprocess.Popen[str]":
    """A command in a session of its own, whose standard error can be followed."""
    return subprocess.Popen(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


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


def killed(process: "subprocess.Popen[str]", mark: str) -> None:
    process.kill()
    assert end(process).code == -signal.SIGKILL
    assert gone(mark)


@pytest.mark.parametrize("delay_s", [0.1, 1.0, 2.0])
def test_killed_early(delay_s: float, exported: CopyBundle, tmp_path: Path) -> None:
    bundle = exported()
    before = tree(bundle)
    process = start(*AGAIN)
    time.sleep(delay_s)
    killed(process, tmp_path.name)
    assert {name: what for name, what in tree(bundle).items() if not name.startswith(".staging-")} == before


@pytest.mark.parametrize("step", STEPS)
def test_killed(step: str, exported: CopyBundle, tmp_path: Path) -> None:
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    follow(process, STEPS[step])
    killed(process, tmp_path.name)
    whole(bundle)
    assert listed(bundle)["cloformer_xxs-fp16.onnx"] == before["cloformer_xxs-fp16.onnx"]
    if step != "commit":
        assert listed(bundle) == before
        assert staging(bundle)


def test_killed_in_the_middle_of_a_step_and_exported_again(exported: CopyBundle, tmp_path: Path) -> None:
    """The simplifier, a process of the worker's own, ends with them; the next export sweeps up and succeeds."""
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    follow(process, STEPS["conversion"])
    time.sleep(7)
    killed(process, tmp_path.name)
    whole(bundle)
    assert listed(bundle) == before
    assert staging(bundle)
    again = spawn(*AGAIN, "--json", cwd=tmp_path)
    assert again.code == 0, again.stderr
    assert parsed(again.stdout)["artifacts"][0]["path"] == "cloformer_xxs-fp32.onnx"
    assert staging(bundle) == []
    assert set(listed(bundle)) == set(before)
    whole(bundle)


def test_simplifier_ends_with_the_export(exported: CopyBundle, tmp_path: Path) -> None:
    exported()
    process = start(*AGAIN)
    try:
        deadline = time.monotonic() + 60
        while not any("formats.simplify" in command(pid) for pid in alive(tmp_path.name)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        simplifier = next(pid for pid in alive(tmp_path.name) if "formats.simplify" in command(pid))
        os.kill(simplifier, signal.SIGSTOP)  # as if it took its time
    finally:
        process.kill()
        end(process)
    os.kill(simplifier, signal.SIGCONT)
    assert gone(tmp_path.name)


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("group", [False, True], ids=["process", "terminal"])
@pytest.mark.parametrize("output", ["bundle", "new/one"])
def test_interrupted(output: str, group: bool, exported: CopyBundle, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group; `kill -INT` one process."""
    exported()
    before = tree(tmp_path)
    process = start(*AGAIN[:3], "--output", output, "--overwrite")
    follow(process, STEPS["conversion"])
    time.sleep(2)
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
    assert gone(tmp_path.name)


def test_terminated(exported: CopyBundle, tmp_path: Path) -> None:
    bundle = exported()
    before = listed(bundle)
    process = start(*AGAIN)
    follow(process, STEPS["conversion"])
    time.sleep(1)
    process.terminate()
    ended = end(process)
    assert ended.code == EXIT_INTERRUPTED
    assert "Traceback" not in ended.stderr
    assert gone(tmp_path.name)
    whole(bundle)
    assert listed(bundle) == before
    assert staging(bundle) == []


@pytest.mark.parametrize("output", ["bundle", "new/one"])
def test_two_at_once(output: str, exported: CopyBundle, tmp_path: Path) -> None:
    exported()
    both = [start(*AGAIN[:3], "--output", output, "--overwrite") for _ in range(2)]
    ended = sorted((end(process) for process in both), key=lambda outcome: outcome.code)
    assert [outcome.code for outcome in ended] == [0, 2], [outcome.stderr for outcome in ended]
    assert "another export is writing" in ended[1].stderr
    assert "Next:" in ended[1].stderr
    assert output in ended[1].stderr
    assert staging(tmp_path / output) == []
    whole(tmp_path / output)


# Killed before each single change to the file system, from the first folder to the last file removed.


def dies_at(operation: int, made: Path, *args: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", DIES_AT, str(made), str(operation), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize("change", ["none", "labels", "weights"])
def test_killed_before_each_operation(change: str, exported_bundle: Path, tmp_path: Path) -> None:
    """The same again; other labels under the same weights, whose copy has the same name; other weights."""
    made = exported_bundle / "cloformer_xxs-fp32.onnx"
    args = list(AGAIN)
    if change == "labels":
        (tmp_path / "names.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
        args += ["--labels", "names.txt"]
    bundle = tmp_path / "bundle"
    broken = []
    for operation in range(40):
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(exported_bundle, bundle, copy_function=os.link)
        if change == "weights":
            rename_weights(bundle)
        code = dies_at(operation, made, *args)
        shown = invoke("inspect", "bundle")
        if shown.code != 0:
            broken.append((operation, shown.stderr))
        if code == 0:
            break
    else:
        pytest.fail("never done")
    assert broken == []
    assert operation >= 6
    assert staging(bundle) == []
    left = {"cloformer_xxs-fp32.onnx"} | ({"cloformer_xxs-fp16.onnx"} if change == "none" else set())
    assert set(listed(bundle)) == left
    assert {path.name for path in bundle.iterdir()} == left | {
        "manifest.json",
        read_manifest(bundle)["weights"]["file"],
    }


def rename_weights(bundle: Path) -> None:
    """Make the bundle look as if it had been made from other weights."""
    old = read_manifest(bundle)["weights"]["file"]
    (bundle / old).rename(bundle / "weights-other.safetensors")
    edit_manifest(bundle, lambda m: m["weights"].update(file="weights-other.safetensors", sha256="5" * 64))
