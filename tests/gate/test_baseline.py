"""The baseline's file comes back as it was written, or is refused; it is never read as something it is not."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate.baseline import Accepted, Baseline, pack, read_baseline, write_baseline


def baseline(n: int = 20) -> Baseline:
    flags = np.random.default_rng(0).integers(0, 2, n).astype(np.bool_)
    accepted = Accepted(
        format="onnx",
        precision="int8",
        target="cpu",
        sha256="a" * 64,
        bytes=1000,
        operators=10,
        sqnr_ci95_db=(30.0, 32.0),
        agrees=pack([flags]),
        right=None,
    )
    images = tuple(f"{index:016x}" for index in range(n))
    return Baseline(tool_version="0", weights_sha256="b" * 64, images=images, artifacts=(accepted,))


@given(st.lists(st.lists(st.booleans(), min_size=1), min_size=1))
def test_flags_come_back(flags: list[list[bool]]) -> None:
    batches = [np.array(batch, np.bool_) for batch in flags]
    together = np.concatenate(batches)
    made = Baseline(tool_version="0", weights_sha256="b" * 64, images=("0" * 16,) * len(together), artifacts=())
    assert np.array_equal(made.unpack(pack(batches)), together)


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text("old")
    write_baseline(path, baseline())
    assert read_baseline(path) == baseline()
    assert [item.name for item in tmp_path.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.99])
def test_a_truncated_one_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "baseline.json"
    content = baseline().model_dump_json()
    path.write_text(content[: int(share * len(content))])
    with pytest.raises(RequestError, match="damaged"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agrees", "00"),
        ("agrees", "zz"),
        ("right", "0000000000"),
        ("bytes", 0),
        ("sqnr_ci95_db", [float("nan"), 1.0]),
        ("sqnr_ci95_db", [1.0]),
        ("surprise", 1),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "baseline.json"
    content = json.loads(baseline().model_dump_json())
    content["artifacts"][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RequestError, match="damaged"):
        read_baseline(path)


def test_neither_missing_nor_unwritable_ones_end_in_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_baseline(tmp_path / "nowhere.json")
    with pytest.raises(RequestError, match="cannot be written"):
        write_baseline(tmp_path / "nowhere" / "baseline.json", baseline())
