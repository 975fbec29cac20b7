"""No kill and no failing rename leaves a manifest that lies."""

import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Manifest
from cloformer_deploy.errors import BundleError
from tests.bundle.small_bundles import FILE, FOLDER, OTHER, assert_whole, export, head

pytestmark = pytest.mark.integration

Step = Callable[[], object]
# Audit events, raised before the call. What changes outside the staging folder are renames.
CHANGES = frozenset({"os.rename", "os.rmdir"})


def in_a_child(work: Step) -> int:
    """Run in a forked process, which never returns here; its wait status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork beside threads
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_before(change: int, work: Step) -> Step:
    """The work, in a process that ends without any clean-up before its n-th change to the file system."""

    def run() -> object:
        left = change

        def hook(event: str, arguments: object) -> None:
            nonlocal left
            if event in CHANGES:
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(hook)  # hooks cannot be removed, but end with this process
        return work()

    return run


Scenario = tuple[Step, Step, set[str], Manifest]


def scenarios(root: Path) -> dict[str, Scenario]:
    """A bundle that stands, an export into it, the bundle expected afterwards, and the model exported."""

    def nothing() -> None:
        return None

    def before() -> None:
        export(root, FILE, FOLDER, content="1")

    def over(manifest: Manifest, *names: str) -> Step:
        return lambda: export(root, *names, content="2", manifest=manifest, overwrite=True)

    second, relabeled = head("second"), head(labels=("x", "y"))
    return {
        "into nothing": (nothing, lambda: export(root, FILE, FOLDER, content="2"), {FILE, FOLDER}, head()),
        "adding": (before, lambda: export(root, OTHER, content="2"), {FILE, FOLDER, OTHER}, head()),
        "replacing": (before, lambda: export(root, FILE, FOLDER, content="2"), {FILE, FOLDER}, head()),
        "other weights": (before, over(second, FILE, FOLDER), {FILE, FOLDER}, second),
        "other weights, fewer files": (before, over(second, OTHER), {OTHER}, second),
        "other labels": (before, over(relabeled, FOLDER), {FOLDER}, relabeled),
    }


@pytest.mark.parametrize("name", scenarios(Path()))
def test_killed_before_any_rename_or_removal(tmp_path: Path, name: str) -> None:
    root = tmp_path / "parent" / "bundle"
    prepare, work, expected, manifest = scenarios(root)[name]
    interrupted = 0
    while True:
        prepare()
        before = Bundle.open(root) if (root / "manifest.json").exists() else None
        status = in_a_child(killed_before(interrupted, work))
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9)
        if before is not None or (root / "manifest.json").exists():
            after = Bundle.open(root)
            after.verify()
            if before is not None and after.manifest.weights != before.manifest.weights:
                assert after.manifest.weights.sha256 == manifest.weights.sha256
            untouched = {FILE, FOLDER, OTHER} - expected if name == "adding" else set()
            assert untouched <= {item.path for item in after.manifest.artifacts}
        if code == 0:
            break
        interrupted += 1
        work()  # the next export works, without any more leave to overwrite than the first had
        assert_whole(root, *expected)
        shutil.rmtree(tmp_path / "parent")
    assert_whole(root, *expected)
    assert interrupted >= 5  # the hook did its work


@pytest.mark.parametrize("later", [(OTHER,), (FILE, OTHER)])
def test_after_a_kill_any_other_export_works_too(tmp_path: Path, later: tuple[str, ...]) -> None:
    """Remains of a killed commit are removed at once or by a later export, and never taken for a stray file."""
    root = tmp_path / "bundle"
    for change in range(200):
        if os.waitstatus_to_exitcode(in_a_child(killed_before(change, lambda: export(root, FILE, FOLDER)))) == 0:
            break
        export(root, *later, content="2")
        listed = {item.path for item in Bundle.open(root).manifest.artifacts}
        assert set(later) <= listed
        assert_whole(root, *listed)
        export(root, FILE, FOLDER, OTHER, content="3")
        assert_whole(root, FILE, FOLDER, OTHER)
        shutil.rmtree(root)
    assert 5 <= change < 199


@pytest.mark.parametrize("name", scenarios(Path()))
def test_a_rename_that_fails_is_an_error_and_the_bundle_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = tmp_path / "bundle"
    prepare, work, expected, _ = scenarios(root)[name]
    failing = 0
    while True:
        prepare()
        left = failing

        def counted(real: Any) -> Any:
            def rename(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left == -1:
                    raise OSError(5, "Input/output error")
                return real(*arguments, **options)

            return rename

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", counted(os.rename))
            patch.setattr(os, "replace", counted(os.replace))
            try:
                work()
            except BundleError as error:
                assert "Input/output error" in error.message  # noqa: PT017
        if left >= 0:
            break
        if (root / "manifest.json").exists():
            Bundle.open(root).verify()
        assert not list(tmp_path.rglob(".staging-*"))
        work()
        assert_whole(root, *expected)
        shutil.rmtree(root)
        failing += 1
    assert failing >= 3


def test_killed_at_random_times(tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    chance = random.Random(0)
    interrupted = 0

    def replace_for_ever() -> None:
        for count in range(100_000):
            export(root, FILE, FOLDER, *(OTHER,) * (count % 2), content=str(count))

    export(root, FILE, FOLDER)
    for _ in range(15):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                replace_for_ever()
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.01, 0.08))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        interrupted += bool(list(root.glob(".staging-*")))
        Bundle.open(root).verify()
    assert interrupted >= 3  # most kills hit an export at work
    export(root, FILE, FOLDER, OTHER)
    assert_whole(root, FILE, FOLDER, OTHER)


def test_a_reader_never_sees_a_half_written_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every listed file is whole before each rename of every kind of commit, not only after a kill."""
    root = tmp_path / "bundle"
    for prepare, work, expected, _ in scenarios(root).values():
        prepare()
        checked = 0

        def checking(real: Any) -> Any:
            def rename(*arguments: Any, **options: Any) -> Any:
                nonlocal checked
                result = real(*arguments, **options)
                if (root / "manifest.json").exists():
                    Bundle.open(root).verify()
                    checked += 1
                return result

            return rename

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", checking(os.rename))
            patch.setattr(os, "replace", checking(os.replace))
            work()
        assert checked >= 1
        assert_whole(root, *expected)
        shutil.rmtree(root)
