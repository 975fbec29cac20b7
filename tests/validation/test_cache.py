"""Test the cache: a value comes back whole or not at all, after damage to its file and beside other processes."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.validation.cache import Cache, default_folder, key

pytestmark = pytest.mark.integration


def test_values_are_found_by_another_cache_of_the_same_folder(tmp_path: Path) -> None:
    values = {key("a", str(index)): bytes([index % 256]) * 100 for index in range(1200)}
    Cache(tmp_path).put(values)
    assert Cache(tmp_path).get([*values, key("b")]) == values


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_keys_of_other_parts_differ(first: list[str], second: list[str]) -> None:
    assert (key(*first) == key(*second)) == (first == second)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9])
def test_a_truncated_file_never_gives_a_wrong_value(tmp_path: Path, kept: float) -> None:
    values = {key(str(index)): str(index).encode() * 500 for index in range(200)}
    first = Cache(tmp_path)
    first.put(values)
    first.close()
    path = tmp_path / "results.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    cache = Cache(tmp_path)
    found = cache.get(values)
    assert found.items() <= values.items()
    cache.put(values)
    cache.put(values)  # the first call may have replaced a damaged file
    assert cache.get(values) == values


def test_a_changed_value_or_key_is_not_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put({key("sound"): b"1" * 40, key("changed"): b"2" * 40})
    cache.close()
    with sqlite3.connect(tmp_path / "results.sqlite") as connection:
        connection.execute("update results set value = ? where key = ?", (b"3" * 40, key("changed")))
        connection.execute("update results set key = ? where key = ?", (key("moved"), key("sound")))
        connection.execute("insert into results values (?, null, null, null)", (key("nothing"),))
    connection.close()
    assert Cache(tmp_path).get([key(name) for name in ("sound", "changed", "moved", "nothing")]) == {}


def test_the_least_recently_used_values_are_removed_at_the_size_limit(tmp_path: Path) -> None:
    limit = 2**20
    cache = Cache(tmp_path, limit)
    old, used = key("old"), key("used")
    cache.put({old: b"o" * 1000})
    cache.put({used: b"u" * 1000})
    for index in range(300):
        cache.put({key(str(index)): bytes(10_000)})
        cache.get([used])
    assert cache.get([old, used]) == {used: b"u" * 1000}
    cache.close()
    assert (tmp_path / "results.sqlite").stat().st_size < 1.5 * limit


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def work(number: int) -> bool:
        values = {key(str(number), str(index)): f"{number} {index}".encode() for index in range(50)}
        cache.put(values)
        return cache.get(values) == values

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(20)))


def test_processes_share_a_cache_and_a_killed_one_does_no_harm(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cloformer_deploy.validation.cache import Cache, key\n"
        "cache = Cache(Path(sys.argv[1])); name = sys.argv[2]\n"
        "for index in range(10**9 if name == 'killed' else 60):\n"
        "    cache.put({key(name, str(index)): name.encode() * 1000})\n"
        "    index == 20 and print('begun', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c", "killed")
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    running[3].kill()
    for process in running:
        process.communicate()
    assert [process.returncode for process in running] == [0, 0, 0, -9]
    cache = Cache(tmp_path)
    for name in ("a", "b", "c"):
        wanted = [key(name, str(index)) for index in range(60)]
        assert cache.get(wanted) == dict.fromkeys(wanted, name.encode() * 1000)
    first = [key("killed", str(index)) for index in range(20)]
    assert len(cache.get(first)) == 20


def test_without_a_usable_folder_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    cache.put({key("a"): b"a"})
    assert cache.get([key("a")]) == {}
    assert cache.problem


def test_the_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/cloformer-deploy")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "cloformer-deploy"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert default_folder() is None
    cache = Cache(default_folder())
    cache.put({b"a": b"1"})
    assert cache.get([b"a"]) == {}
    assert cache.problem is not None
    assert "--cache DIR" in cache.problem
    cache.close()
