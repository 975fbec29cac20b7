"""The state that a search keeps beside the output is read back as written, and a damaged one is rejected."""

from pathlib import Path

import pytest

from cloformer_deploy.exporting.search_state import Evaluated, State, read_state, write_state
from cloformer_deploy.progress import Silent

KEY = "a" * 64
FILE = Evaluated(excluded_layers=("head",), sha256="b" * 64, drop_pp=0.5, drop_ci95_pp=(-0.25, 1.25))
EVIDENCE = ("02000000", "00000000", "01000000")
FULL = State(key=KEY, expected=EVIDENCE, noise={"head": 1e-5}, files=(FILE,))


class Warned(Silent):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def read(path: Path, key: str = KEY, images: int = 3) -> tuple[State, list[str]]:
    progress = Warned()
    return read_state(path, key, images, progress), progress.warnings


def changed(old: str, new: str) -> bytes:
    content = FULL.model_dump_json()
    assert old in content
    return content.replace(old, new).encode()


def test_as_written(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read(path) == (State(key=KEY), [])
    write_state(path, State(key=KEY))
    write_state(path, FULL)
    assert read(path) == (FULL, [])
    assert list(tmp_path.iterdir()) == [path]


def test_of_another_search(tmp_path: Path) -> None:
    write_state(tmp_path / "state.json", FULL)
    assert read(tmp_path / "state.json", key="c" * 64) == (State(key="c" * 64), [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff{",
        FULL.model_dump_json().encode()[:-9],
        changed("0.5", "NaN"),
        changed(',"01000000"]', "]"),
        changed('"01000000"', '"010000"'),
        changed('"01000000"', '"0100000"'),
        changed('"01000000"', '"0100000g"'),
        changed('["02000000","00000000","01000000"]', "[]"),
        changed('"key"', '"other"'),
    ],
)
def test_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content)
    state, warnings = read(tmp_path / "state.json")
    assert state == State(key=KEY)
    assert "damaged" in warnings[0]
