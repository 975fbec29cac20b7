"""Child processes of this package: how they are started, and that they end with the process that started them."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest

from cloformer_deploy.system.subprocesses import Process, own_process

WAITS_S = 60


def program(folder: Path, *lines: str, name: str = "child_program") -> Path:
    path = folder / f"{name}.py"
    path.write_text("\n".join(["import os, subprocess, sys, time", *lines]))
    return path


def said(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.read()


def first_line(stream: IO[bytes]) -> bytes:
    assert select.select([stream], [], [], WAITS_S)[0], "no answer in time"
    return stream.readline()


def test_a_module_has_its_arguments_environment_and_input(tmp_path: Path) -> None:
    program(
        tmp_path, "print(sys.argv[1:], os.environ['CHILD_COLOR'], sys.stdin.readline().strip(), 'PATH' in os.environ)"
    )
    environment = {"PYTHONPATH": str(tmp_path), "CHILD_COLOR": "green"}
    with own_process("child_program", "a b", "c", stdout=subprocess.PIPE, environment=environment) as process:
        assert process.stdin is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert said(process) == "['a b', 'c'] green hello True\n"
        assert process.wait(WAITS_S) == 0


def test_a_script_has_its_arguments(tmp_path: Path) -> None:
    path = program(tmp_path, "print(sys.argv[1:], sys.flags.isolated)")
    with own_process(path, "a", stdout=subprocess.PIPE) as process:
        assert said(process) == "['a'] 1\n"
        assert process.wait(WAITS_S) == 0


def test_the_working_directory_provides_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path)
    program(tmp_path, name="json")
    monkeypatch.chdir(tmp_path)
    with own_process("child_program", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert "No module named child_program" in said(process)
        assert process.wait(WAITS_S) == 1
    script = program(tmp_path, "import json; print(json.__file__)", name="script")
    with own_process(script, stdout=subprocess.PIPE) as process:
        assert str(tmp_path) not in said(process)
        assert process.wait(WAITS_S) == 0


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_child_is_killed_and_reaped_on_exit(tmp_path: Path, error: type[BaseException] | None) -> None:
    path = program(tmp_path, "print('ready', flush=True)", "time.sleep(600)")
    kept: list[Process] = []

    def use() -> None:
        with own_process(path, stdout=subprocess.PIPE) as process:
            kept.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if error:
                raise error

    if error:
        with pytest.raises(error):
            use()
    else:
        use()
    assert kept[0].returncode == -signal.SIGKILL  # set by the wait, not by the kill


def test_input_that_a_dead_child_did_not_read_is_no_error(tmp_path: Path) -> None:
    with own_process(program(tmp_path)) as process:
        assert process.stdin is not None
        assert process.wait(WAITS_S) == 0
        process.stdin.write("too late")
    assert process.stdin.closed


@pytest.mark.timeout(WAITS_S)
def test_a_grandchild_that_holds_the_output_open_does_not_delay_the_exit(tmp_path: Path) -> None:
    released = tmp_path / "released"
    os.mkfifo(released)
    path = program(
        tmp_path, f"subprocess.Popen(['cat', {str(released)!r}])", "print('ready', flush=True)", "time.sleep(600)"
    )
    with own_process(path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert process.returncode == -signal.SIGKILL
    released.open("w").close()  # so that the grandchild ends too


def test_a_session_of_its_own(tmp_path: Path) -> None:
    path = program(tmp_path, "print(os.getsid(0) == os.getpid())")
    for new_session in (True, False):
        with own_process(path, stdout=subprocess.PIPE, new_session=new_session) as process:
            assert said(process) == f"{new_session}\n"


PARENT = """
from pathlib import Path
from cloformer_deploy.system.subprocesses import own_process
with own_process(Path(sys.argv[1])) as process:
    process.wait()
"""
CHILD: Sequence[str] = (
    "from cloformer_deploy.system.subprocesses import end_with_parent",
    "end_with_parent()",
    "print('ready', file=sys.stderr, flush=True)",
    "time.sleep(600)",
)


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = program(tmp_path, *CHILD)
    parent = program(tmp_path, PARENT, name="parent_program")
    with subprocess.Popen([sys.executable, str(parent), str(child)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert first_line(process.stderr) == b"ready\n"
        process.kill()
        # The child has the other end of this pipe: it is closed when the child is gone.
        assert first_line(process.stderr) == b""


def test_a_child_goes_on_while_its_parent_lives(tmp_path: Path) -> None:
    path = program(tmp_path, CHILD[0], CHILD[1], "time.sleep(0.5)", "print('done')")
    with own_process(path, stdout=subprocess.PIPE) as process:
        assert said(process) == "done\n"
        assert process.wait(WAITS_S) == 0
