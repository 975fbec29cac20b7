"""The one command over a connection, with a shell of this machine at its other end. Devices are in tests/devices."""

import time
from pathlib import Path

import pytest

from cloformer_deploy.bench.devices.remote import UNPACK, Connection, sent, survey
from cloformer_deploy.errors import MissingPartError, ToolError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return Connection("here", ("sh", "-c"))


def test_files_arrive_and_nothing_stays(here: Connection, tmp_path: Path) -> None:
    files = {"a": b"first\n", "b": bytes(1_000_000)}
    with sent(here, UNPACK + "cat a; wc -c < b; pwd", files, 30) as lines:
        first, size, folder = lines
    assert (first, size.strip()) == ("first\n", "1000000")
    assert folder.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "exit code 3"),
        ("echo 'no such thing' >&2; exit 4", "no such thing"),
        ("exit 124", "took too long"),
        ("exit 137", "was killed"),
        ("exit 255", "connection"),
        ("kill -9 $$", "connection"),
        ("echo 'tar: x: Cannot write: No space left on device' >&2; exit 91", "disk of here is full"),
        ("exit 90", "cannot take the files"),
    ],
)
def test_failures(here: Connection, tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(ToolError, match=said), sent(here, script, {}, 30) as lines:
        list(lines)
    assert not list(tmp_path.iterdir())


def test_what_is_missing(here: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPartError, match="python9"):
        survey(here, "python9", [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPartError, match="mktemp is not there"):
        survey(Connection("here", ("/bin/sh", "-c")), "python3", [])


def test_a_shell_that_greets(here: Connection) -> None:
    talkative = Connection("here", ("sh", "-c", 'echo Welcome; eval "$0"'))
    with pytest.raises(ToolError, match="Welcome"):
        survey(talkative, "python3", [])


def test_time_out(here: Connection, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ToolError, match="did not end in time"), sent(here, UNPACK + "exec sleep 60", {}, 1) as lines:
        list(lines)
    assert time.monotonic() - begun < 20


def test_an_interrupt_while_much_is_sent_to_one_who_does_not_read(here: Connection) -> None:
    def interrupted() -> None:
        with sent(here, "exec sleep 60", {"large": bytes(50_000_000)}, 120):
            time.sleep(0.5)
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 10
