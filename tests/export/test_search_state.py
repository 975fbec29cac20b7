"""What a search keeps beside the output: read back as written, and never trusted when it cannot be."""

from pathlib import Path

import pytest

from cloformer_deploy.export.search_state import Evaluated, State, read_state, write_state

KEY = "a" * 64
FILE = Evaluated(excluded_layers=("head",), sha256="b" * 64, drop_pp=0.5, drop_ci95_pp=(-0.25, 1.25))
FULL = State(key=KEY, expected=(2, 0, 1), noise={"head": 1e-5}, files=(FILE,))


def read(path: Path, key: str = KEY, classes: int = 3, images: int = 3) -> tuple[State, list[str]]:
    warnings: list[str] = []
    return read_state(path, key, classes, images, warnings.append), warnings


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
        FULL.model_dump_json().replace("0.5", "NaN").encode(),
        FULL.model_dump_json().replace("[2,0,1]", "[2,0]").encode(),
        FULL.model_dump_json().replace("[2,0,1]", "[3,0,1]").encode(),
        FULL.model_dump_json().replace("[2,0,1]", "[]").encode(),
        FULL.model_dump_json().replace('"key"', '"other"').encode(),
    ],
)
def test_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content)
    state, warnings = read(tmp_path / "state.json")
    assert state == State(key=KEY)
    assert "damaged" in warnings[0]
