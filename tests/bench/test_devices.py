"""Requests for devices, and the output of TFLite's benchmark_model. Tests on real devices are in tests/devices."""

import hashlib
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.bench.devices import DEVICES, Options, open_device
from cloformer_deploy.bench.devices.adb import adb_program
from cloformer_deploy.bench.devices.benchmark_binary import VARIABLE, download, find_binary, machine_of
from cloformer_deploy.bench.devices.benchmark_model import read_conditions, read_run
from cloformer_deploy.cli.options import parse_cores
from cloformer_deploy.errors import MissingPartError, RequestError, ToolError

# From LiteRT's documentation of its benchmark tools, and from published runs.
PRINTED = """
INFO: Initialized session in 16.242ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=2 first=360262 curr=248910 min=248910 max=360262 avg=304586 std=55676
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442 p5=247500 median=249600 p95=252000
INFO: Inference timings in us: Init: 16242, First inference: 360262, Warmup (avg): 304586, Inference (avg): 249684
INFO: Memory footprint delta from the start of the tool (MB): init=4.92969 overall=138.809
INFO: Overall peak memory footprint (MB) via periodic monitoring: 141.5
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("host", "host"),
        ("adb", "adb"),
        ("adb:R58M123ABC", "adb:R58M123ABC"),
        ("adb:192.168.1.7:5555", "adb:192.168.1.7:5555"),
        ("ssh://board", "ssh://board"),
        ("ssh://pi@board.local:2222/", "ssh://pi@board.local:2222"),
        ("ssh://[fe80::1%eth0]:22", "ssh://[fe80::1%eth0]:22"),
        ("coreml", "coreml"),
        ("coreml:Ada's iPhone", "coreml:Ada's iPhone"),
        ("qai-hub:Samsung Galaxy S24", "qai-hub:Samsung Galaxy S24"),
    ],
)
def test_devices(text: str, name: str) -> None:
    assert open_device(text, Options()).name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "phone",
        "host:1",
        "adb:-s",
        "adb:a b",
        "ssh:board",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "qai-hub:",
    ],
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        open_device(text, Options())
    assert "--device" in refused.value.hint + refused.value.message


@given(st.text(max_size=30))
def test_nothing_that_ssh_takes_for_an_option(text: str) -> None:
    try:
        device = open_device(f"ssh://{text}", Options())
    except RequestError:
        return
    command = device._connection.command  # type: ignore[attr-defined]
    assert not command[-1].startswith("-")
    assert command[-2] == "--"
    assert not set(command[-1]) & set(" ;&|$`'\"\n\\<>(){}*?!")


def test_every_kind_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    for kind in DEVICES.values():
        assert f"`{kind.form}`" in text


@pytest.mark.parametrize(("text", "cores"), [("0", (0,)), ("3,0-1", (0, 1, 3)), ("2-2", (2,)), ("1,1", (1,))])
def test_cores(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "-1", "1;2", "99999999"])
def test_no_cores(text: str) -> None:
    with pytest.raises(RequestError, match="--cores"):
        parse_cores(text)


def test_what_benchmark_model_prints() -> None:
    run = read_run(PRINTED)
    assert run is not None
    assert (run.n, run.mean_ms, run.std_ms, run.min_ms) == (50, 249.684, 1.442, 247.067)
    assert (run.init_ms, run.first_ms, run.peak_bytes) == (16.242, 360.262, 141_500_000)


def test_numbers_with_an_exponent_and_none_of_memory() -> None:
    old = PRINTED.replace("avg=249684", "avg=2.49684e+06").partition("INFO: Memory")[0]
    run = read_run(old)
    assert run is not None
    assert run.mean_ms == pytest.approx(2496.84)
    assert run.peak_bytes is None


@given(st.integers(0, len(PRINTED)))
def test_what_was_cut_short_gives_no_figures(end: int) -> None:
    run = read_run(PRINTED[:end])
    if "First inference: 360262," not in PRINTED[:end]:
        assert run is None


def test_conditions_of_the_cores_that_were_used() -> None:
    text = "cpu 0 schedutil 1800000\ncpu 7 performance 3000000\nzone cpu-0-0 45100\nzone battery -1000\nzone odd\n"
    found = read_conditions(text, [7])
    assert (found.governor, found.frequency_mhz) == ("performance", 3000.0)
    assert found.temperatures_c == {"cpu-0-0": 45.1, "battery": -1.0}
    assert read_conditions(text, None).governor == "performance, schedutil"
    assert read_conditions("", None).frequency_mhz is None


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "cache" / "cloformer-deploy"


LACK = MissingPartError("there is no Python", "install one")


def test_binary_is_given_named_or_asked_for(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPartError, match="benchmark_model is not there") as missing:
        find_binary(Options(), LACK)
    assert "--download" in missing.value.hint
    monkeypatch.setenv(VARIABLE, "/some/tool")
    assert find_binary(Options(), LACK) == Path("/some/tool")
    assert find_binary(Options(benchmark_binary=Path("/mine")), LACK) == Path("/mine")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a file, served for real."""
    (tmp_path / "tool").write_bytes(b"\x7fELF a tool")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/tool"
        server.shutdown()


def test_download_is_used_as_it_came(empty_cache: Path, served: str) -> None:
    kept = empty_cache / "android_aarch64_benchmark_model"
    checksum = kept.with_suffix(".sha256")
    download(served, kept, checksum)
    assert checksum.read_text().strip() == hashlib.sha256(b"\x7fELF a tool").hexdigest()
    assert find_binary(Options(), LACK) == kept
    kept.write_bytes(b"\x7fELF another")
    with pytest.raises(MissingPartError, match="not what was downloaded"):
        find_binary(Options(download=True), LACK)
    with pytest.raises(ToolError, match="cannot be downloaded"):
        download(served + "-that-is-not-there", kept, checksum)
    assert kept.read_bytes() == b"\x7fELF another"


def test_processor_of_a_program(tmp_path: Path) -> None:
    assert machine_of(Path(sys.executable).resolve()) in ("x86_64", "aarch64")
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    for path in (script, tmp_path / "none", tmp_path):
        with pytest.raises(RequestError, match=str(path)):
            machine_of(path)


def test_adb_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="is not a program"):
        adb_program(tmp_path / "none")
    program = tmp_path / "adb"
    shutil.copy(sys.executable, program)
    assert adb_program(None) == str(program)
    assert adb_program(program) == str(program)
