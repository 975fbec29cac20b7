"""Every command that reads an artifact refuses one that refers to other files, or that is a link to one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backends.onnx.outside import model_with
from tests.cli.command_line import CopyBundle, put, relist, save, small_model
from tests.cli.refusals import Case, check

pytestmark = pytest.mark.integration

ARTIFACT = "cloformer_xxs-fp32.onnx"
LATENCY = "[defaults]\nspeedup = 1.0\n"


def refers_to_another(path: Path) -> None:
    """As after careful tampering: the checksum is right."""
    save(model_with("subgraph", "../secret"), path)
    relist(path.parent)


def is_a_link_out_of_the_bundle(path: Path) -> None:
    save(small_model(), path.parent.parent / "secret.onnx")
    path.unlink()
    path.symlink_to("../secret.onnx")


COMMANDS: dict[str, tuple[str, ...]] = {
    "validate": ("validate", "bundle", "--limit", "1"),
    "gate": ("gate", "bundle", "--limit", "1", "--no-cache"),
    "gate-latency": ("gate", "bundle", "--limit", "1", "--no-cache", "--config", "latency.toml"),
    "inspect": ("inspect", "bundle"),
    "bench": ("bench", "bundle"),
    "report": ("report", "bundle", "--limit", "1"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [(refers_to_another, ("in other files", "../secret")), (is_a_link_out_of_the_bundle, ("symbolic link",))],
    ids=["refers-to-another", "link"],
)
def test_commands_on_a_bundle(
    command: str, spoil: Callable[[Path], None], told: tuple[str, ...], drafted: CopyBundle, tmp_path: Path
) -> None:
    spoil(drafted() / ARTIFACT)
    put(tmp_path / "latency.toml", LATENCY.encode())
    check(Case(command, COMMANDS[command], (ARTIFACT, *told)), tmp_path)


@pytest.mark.parametrize("command", ["inspect", "blame"])
def test_commands_on_an_artifact(command: str, drafted: CopyBundle, tmp_path: Path) -> None:
    refers_to_another(drafted() / ARTIFACT)
    check(Case(command, (command, f"bundle/{ARTIFACT}"), (ARTIFACT, "in other files")), tmp_path)


def test_blame_of_a_link_out_of_the_bundle(drafted: CopyBundle, tmp_path: Path) -> None:
    is_a_link_out_of_the_bundle(drafted() / ARTIFACT)
    check(Case("blame", ("blame", f"bundle/{ARTIFACT}"), (ARTIFACT, "is in no bundle")), tmp_path)
