"""The command over a connection, to a shell of this machine. Tests on real devices are in tests/devices."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloformer_deploy.bench import Protocol
from cloformer_deploy.bench.devices import Request
from cloformer_deploy.bench.devices.remote import UNPACK, Connection, measure_there, sent, survey
from cloformer_deploy.bench.measure import load
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.progress import Silent
from tests.bench.conftest import SLOW, MakeBundle

pytestmark = pytest.mark.integration


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return Connection("here", ("sh", "-c"))


def test_files_arrive_and_nothing_stays(here: Connection, tmp_path: Path) -> None:
    files = {"a": b"first\n", "in/a folder/b": bytes(1_000_000)}
    with sent(here, UNPACK + "cat a; wc -c < 'in/a folder/b'; pwd", files, 30) as lines:
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
        survey(here, "python9", "{}")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPartError, match="mktemp is not there"):
        survey(Connection("here", ("/bin/sh", "-c")), "python3", "{}")


def test_a_shell_that_greets(here: Connection) -> None:
    talkative = Connection("here", ("sh", "-c", 'echo Welcome; eval "$0"'))
    with pytest.raises(ToolError, match="Welcome"):
        survey(talkative, "python3", "{}")


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


READS_A_FOLDER = """
from pathlib import Path
import numpy

def open_file(path, threads, unit):
    value = int((Path(path) / "inner" / "value").read_text())
    return lambda feed: {"logits": numpy.full((1, 2), value)}
"""


def test_a_folder_arrives_with_its_checksum(
    here: Connection, tmp_path: Path, make_bundle: MakeBundle, set_opener: Callable[..., None]
) -> None:
    set_opener(READS_A_FOLDER)
    before = set(tmp_path.iterdir())
    bundle = make_bundle({SLOW: {"inner/value": b"7", "other": b"0"}})
    request = Request([load(bundle, bundle.manifest.artifacts[0])], 1, None, Protocol(1, 0, 5, 0), 60)
    (found,) = measure_there(here, sys.executable, request, Silent()).measured
    assert found.status == "measured", found.reason
    assert found.outputs is not None
    assert found.outputs["logits"].tolist() == [[7, 7]]
    (bundle.root / SLOW / "other").write_bytes(b"1")
    (found,) = measure_there(here, sys.executable, request, Silent()).measured
    assert (found.status, found.reason) == ("failed", "ValueError: it did not arrive as it was sent")
    assert set(tmp_path.iterdir()) == before


def test_hint_for_a_missing_runtime_names_its_packages(
    here: Connection, make_bundle: MakeBundle, set_opener: Callable[..., None]
) -> None:
    set_opener("", modules=("no_such_runtime",), packages="numpy no-such-runtime")
    bundle = make_bundle({SLOW: b"anything"})
    request = Request([load(bundle, bundle.manifest.artifacts[0])], 1, None, Protocol(1, 0, 5, 0), 60)
    with pytest.raises(MissingPartError, match="no_such_runtime") as missing:
        measure_there(here, sys.executable, request, Silent())
    assert missing.value.hint.endswith("-m pip install numpy no-such-runtime")
    set_opener("", system="AmigaOS")
    with pytest.raises(MissingPartError, match="onnx files run on AmigaOS only"):
        measure_there(here, sys.executable, request, Silent())
