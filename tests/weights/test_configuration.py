"""Configuration files: JSON and YAML, flat or as published; anything else is refused with its reason."""

from pathlib import Path

import pytest

from cloformer_deploy.errors import RequestError
from cloformer_deploy.networks import configuration_keys
from cloformer_deploy.weights.configuration import MAX_BYTES, read_configuration

KEYS = configuration_keys()
WINDOWS = {"window_sizes": [4, 4, 2, 1]}


@pytest.mark.parametrize(
    "text",
    [
        '{"window_sizes": [4, 4, 2, 1]}',
        "window_sizes: [4, 4, 2, 1]\n",
        "MODEL:\n  NAME: a\n  cloformer:\n    window_sizes: [4, 4, 2, 1]\n    drop_path_rate: 0.1\nDATA: {}\n",
    ],
)
def test_forms(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert read_configuration(path, KEYS) == WINDOWS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("window_size: [4, 4, 2, 1]", "unknown key 'window_size'"),
        ("[1, 2]", "not a mapping"),
        ("drop_rate: 1", "none of the published keys"),
        ("a: &a [1]\nb: *c", "cannot be read"),
        ("!!python/object/apply:os.system ['exit 1']", "cannot be read"),
        ("x" * (MAX_BYTES + 1), "more than"),
    ],
)
def test_other_content_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        read_configuration(path, KEYS)
    assert words in caught.value.message
    assert "window_sizes" in caught.value.hint


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file"):
        read_configuration(tmp_path / "none.yaml", KEYS)
