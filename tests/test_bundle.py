"""The bundle on disk: checksums, commits, refusals, and that no failure or kill leaves a manifest that lies."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import BundleError
from cloformer_deploy.manifest import Artifact, Interface, Manifest, Weights, weights_name

FILE, FOLDER, OTHER = "cloformer_xxs-fp32.onnx", "cloformer_xxs-fp32.mlpackage", "cloformer_xxs-int8.tflite"
KINDS = {".onnx": ("onnx", "cpu"), ".mlpackage": ("coreml", "ane"), ".tflite": ("tflite", "cpu")}
Tree = dict[str, bytes | str | None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def head(weights: str = "first", labels: tuple[str, ...] | None = ("a", "b"), side: int = 224) -> Manifest:
    """What an export begins with."""
    copy = sha256(copy_of_weights(weights, labels))
    return Manifest(
        schema_version=1,
        tool_version="1",
        variant="xxs",
        num_classes=2,
        labels=labels,
        weights=Weights(name=weights, sha256=sha256(weights.encode()), file=weights_name(copy), file_sha256=copy),
        input=Preprocessing.published(side, side),
    )


def copy_of_weights(name: str, labels: tuple[str, ...] | None) -> bytes:
    """Stands for the safetensors copy, whose bytes depend on the labels too."""
    return f"{name} with labels {labels}".encode()


def write(path: Path, content: str) -> Path:
    """A file; of an .mlpackage, a folder of three files whose contents differ."""
    if path.suffix != ".mlpackage":
        path.write_text(content)
        return path
    (path / "Data" / "weights").mkdir(parents=True)
    for name in ("Manifest.json", "Data/model.mlmodel", "Data/weights/weight.bin"):
        (path / name).write_text(f"{name}: {content}")
    return path


def artifact(path: Path) -> Artifact:
    return Artifact(
        path=path.name,
        format=KINDS[path.suffix][0],
        precision="fp32",
        target=KINDS[path.suffix][1],
        sha256=digest(path),
        bytes=size_bytes(path),
        input=Interface(kind="tensor", batch=1),
        created_with={},
    )


def stage(writer: BundleWriter, names: tuple[str, ...], content: str) -> list[Artifact]:
    """What the pipeline does inside the `with`: the copy of the weights, then the artefacts."""
    writer.staging.joinpath(writer.head.weights.file).write_bytes(
        copy_of_weights(writer.head.weights.name, writer.head.labels)
    )
    return [artifact(write(writer.staging / name, f"{content} {name}")) for name in names]


def export(
    root: Path, *names: str, content: str = "1", manifest: Manifest | None = None, overwrite: bool = False
) -> Bundle:
    with BundleWriter(root, manifest or head(), overwrite=overwrite) as writer:
        return writer.commit(stage(writer, names, content))


def tree(root: Path) -> Tree:
    """Everything under a folder: the bytes of files, where links lead, None for folders; hidden ones too."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def assert_whole(root: Path, *names: str) -> None:
    """The bundle is what it says, holds these artefacts, and there is nothing else in its folder."""
    bundle = Bundle.open(root)
    bundle.verify()
    assert {item.path for item in bundle.manifest.artifacts} == set(names)
    assert {path.name for path in root.iterdir()} == {*names, "manifest.json", bundle.manifest.weights.file}


def refusal(call: Callable[[], object]) -> BundleError:
    with pytest.raises(BundleError) as caught:
        call()
    assert caught.value.hint
    return caught.value


# Checksums


def shell_digest(folder: Path) -> str:
    """As anyone can check it: sha256sum of the listing that sha256sum gives of all files."""
    command = (
        "find . -type f | sed 's|^./||' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0r sha256sum | sha256sum | cut -c-64"
    )
    return subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_digest_of_a_folder_is_that_of_its_sha256sum_listing(tmp_path: Path) -> None:
    # As paths, a/b comes before a-b; as texts, after it.
    for name in ("Manifest.json", "a/b", "a-b", "a.b", "a/.hidden", "a/c/d e", "B", "ä", "empty"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name * (name != "empty"))
    (tmp_path / "no files").mkdir()
    assert digest(tmp_path) == shell_digest(tmp_path)
    (tmp_path / os.fsdecode(b"\xff")).write_text("a name that is not UTF-8")
    assert digest(tmp_path) == shell_digest(tmp_path)


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    assert digest(write(tmp_path / "a", "content")) == sha256(b"content")


def test_the_digest_of_a_folder_sees_contents_and_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.mlpackage", "1")
    before = digest(folder)
    (folder / "Manifest.json").rename(folder / "manifest.json")
    renamed = digest(folder)
    (folder / "manifest.json").rename(folder / "Manifest.json")
    assert digest(folder) == before
    (folder / "Data" / "model.mlmodel").write_text("2")
    assert len({before, renamed, digest(folder)}) == 3


def test_sizes_are_of_all_files(tmp_path: Path) -> None:
    assert size_bytes(write(tmp_path / "a", "12345")) == 5
    folder = write(tmp_path / "a.mlpackage", "1")
    assert size_bytes(folder) == sum(len(content) for content in tree(folder).values() if content)


# Commits


def test_an_export_makes_the_folder_and_lists_what_it_wrote(tmp_path: Path) -> None:
    root = tmp_path / "new" / "bundle"
    bundle = export(root, FILE, FOLDER)
    assert_whole(root, FILE, FOLDER)
    assert Bundle.open(root) == bundle
    assert [item.path for item in bundle.manifest.artifacts] == [FOLDER, FILE]  # sorted by format
    assert bundle.path(bundle.manifest.artifacts[1]).read_text() == f"1 {FILE}"
    assert digest(bundle.weights_path) == bundle.manifest.weights.file_sha256
    assert bundle.weights_path.read_text() == "first with labels ('a', 'b')"


def test_an_empty_folder_can_be_the_output(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    assert_whole(tmp_path, FILE)


def test_the_same_weights_add_to_the_bundle_and_replace_their_own(tmp_path: Path) -> None:
    export(tmp_path, FILE, FOLDER, content="1")
    export(tmp_path, OTHER, content="2")
    assert_whole(tmp_path, FILE, FOLDER, OTHER)
    export(tmp_path, FOLDER, FILE, content="3")
    assert_whole(tmp_path, FILE, FOLDER, OTHER)
    assert (tmp_path / FILE).read_text().startswith("3")
    assert (tmp_path / FOLDER / "Manifest.json").read_text() == f"Manifest.json: 3 {FOLDER}"
    assert (tmp_path / OTHER).read_text().startswith("2")


def test_a_smaller_folder_replaces_a_larger_one_wholly(tmp_path: Path) -> None:
    export(tmp_path, FOLDER)
    (tmp_path / FOLDER / "Data" / "extra").write_text("left from before")
    export(tmp_path, FOLDER)
    assert_whole(tmp_path, FOLDER)


def test_a_damaged_artefact_is_healed_by_exporting_it_again(tmp_path: Path) -> None:
    weights = export(tmp_path, FILE, FOLDER).weights_path
    (tmp_path / FILE).unlink()
    weights.write_text("changed")
    shutil.rmtree(tmp_path / FOLDER)
    (tmp_path / FOLDER).write_text("a file where a folder was")
    export(tmp_path, FILE, FOLDER)
    assert_whole(tmp_path, FILE, FOLDER)


OTHERS = {
    "weights": (head("second"), "weights first"),
    "labels": (head(labels=("a", "c")), "other labels"),
    "no labels": (head(labels=None), "other labels"),
    "size": (head(side=256), "224 x 224"),
}


@pytest.mark.parametrize(("manifest", "named"), OTHERS.values(), ids=OTHERS)
def test_another_model_is_refused_and_nothing_changes(tmp_path: Path, manifest: Manifest, named: str) -> None:
    export(tmp_path, FILE, FOLDER)
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    error = refusal(lambda: export(tmp_path, OTHER, manifest=manifest))
    assert named in error.message
    assert "--overwrite" in error.hint
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("manifest", "named"), OTHERS.values(), ids=OTHERS)
def test_with_overwrite_another_model_replaces_the_bundle_and_nothing_else(
    tmp_path: Path, manifest: Manifest, named: str
) -> None:
    export(tmp_path, FILE, FOLDER)
    foreign = [tmp_path / "notes.txt", tmp_path / "weights-mine.safetensors", tmp_path / "cloformer_s-fp32.onnx"]
    for path in foreign:
        path.write_text("mine")
    bundle = export(tmp_path, OTHER, FILE, manifest=manifest, overwrite=True)
    for path in foreign:
        assert path.read_text() == "mine"
        path.unlink()
    assert_whole(tmp_path, OTHER, FILE)
    assert Bundle.open(tmp_path).manifest == bundle.manifest


def test_overwrite_keeps_the_other_artefacts_of_the_same_model(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    export(tmp_path, FOLDER, overwrite=True)
    assert_whole(tmp_path, FILE, FOLDER)


@pytest.mark.parametrize("stray", [FILE, FOLDER])
@pytest.mark.parametrize("made", ["file", "folder"])
def test_a_stray_is_refused_and_with_overwrite_replaced(tmp_path: Path, stray: str, made: str) -> None:
    export(tmp_path, OTHER)
    if made == "file":
        (tmp_path / stray).write_text("mine")
    else:
        (tmp_path / stray).mkdir()
        (tmp_path / stray / "mine").write_text("mine")
    before = tree(tmp_path)
    error = refusal(lambda: export(tmp_path, FILE, FOLDER))
    assert str(tmp_path / stray) in error.message
    assert tree(tmp_path) == before
    export(tmp_path, FILE, FOLDER, overwrite=True)
    assert_whole(tmp_path, FILE, FOLDER, OTHER)


def test_a_stray_where_the_weights_have_to_go(tmp_path: Path) -> None:
    name = export(tmp_path / "a", FILE).weights_path.name
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_text("mine")
    assert name in refusal(lambda: export(tmp_path / "b", FILE)).message
    assert tree(tmp_path / "b") == {name: b"mine"}


def test_a_damaged_manifest_is_refused_and_with_overwrite_replaced(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    (tmp_path / "manifest.json").write_text("{")
    before = tree(tmp_path)
    refusal(lambda: export(tmp_path, FILE))
    assert tree(tmp_path) == before
    export(tmp_path, FILE, overwrite=True)
    assert_whole(tmp_path, FILE)


# Failures


def failing(writer: BundleWriter, error: BaseException) -> None:
    """An export that fails when its artefacts are made but not committed."""

    def work() -> None:
        with writer:
            stage(writer, (FILE, OTHER), "2")
            raise error

    with pytest.raises(type(error)):
        work()


@pytest.mark.parametrize("error", [RuntimeError("converter"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_a_bundle_as_it_was(tmp_path: Path, error: BaseException, overwrite: bool) -> None:
    export(tmp_path, FILE, FOLDER)
    before = tree(tmp_path)
    failing(BundleWriter(tmp_path, head(), overwrite=overwrite), error)
    assert tree(tmp_path) == before
    export(tmp_path, OTHER)
    assert_whole(tmp_path, FILE, FOLDER, OTHER)


def test_a_failure_removes_the_folders_it_made_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    failing(BundleWriter(tmp_path / "mine" / "a" / "b", head(), overwrite=False), RuntimeError())
    assert tree(tmp_path) == {"mine": None}


def test_what_others_put_beside_an_unfinished_export_is_kept(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a" / "b", head(), overwrite=False):
        (tmp_path / "a" / "notes.txt").write_text("mine")
    assert tree(tmp_path) == {"a": None, "a/notes.txt": b"mine"}


def test_without_a_commit_nothing_is_left(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a", head(), overwrite=False) as writer:
        stage(writer, (FILE, FOLDER), "1")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("existing", ["output", "parent"])
def test_the_output_is_no_folder(tmp_path: Path, existing: str) -> None:
    (tmp_path / "a").write_text("mine")
    root = tmp_path / "a" / ("b" if existing == "parent" else "")
    assert str(root) in refusal(lambda: export(root, FILE)).message
    assert tree(tmp_path) == {"a": b"mine"}


def test_the_output_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    refusal(lambda: export(tmp_path / "a", FILE))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_the_parent_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in refusal(lambda: export(tmp_path / "a" / "b", FILE)).message
    finally:
        tmp_path.chmod(0o700)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("function", ["mkdir", "mkdtemp"])
def test_the_system_lets_us_make_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """As for a read-only parent or a full disk; also for root."""

    def denied(path: object = "", *arguments: object, **options: object) -> None:
        if function == "mkdtemp" or Path(str(path)).name == "b":
            raise PermissionError(13, "Permission denied")
        real(path, *arguments, **options)

    real: Any = os.mkdir
    with monkeypatch.context() as patch:
        patch.setattr(os if function == "mkdir" else tempfile, function, denied)
        assert "Permission denied" in refusal(lambda: export(tmp_path / "a" / "b", FILE)).message
    assert tree(tmp_path) == {}


def test_a_full_disk_at_the_manifest_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path, FILE, FOLDER)
    before = tree(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in refusal(lambda: export(tmp_path, FILE, FOLDER, content="2")).message
    assert tree(tmp_path) == before


# One writer at a time


def test_a_second_writer_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    root = tmp_path / "a"
    with BundleWriter(root, head(), overwrite=False) as writer:
        artifacts = stage(writer, (FILE,), "1")
        before = tree(root)
        for overwrite in (False, True):
            error = refusal(lambda: export(root, OTHER, overwrite=overwrite))  # noqa: B023
            assert "another export" in error.message
        assert tree(root) == before
        writer.commit(artifacts)
    export(root, OTHER)
    assert_whole(root, FILE, OTHER)


def test_the_lock_holds_across_processes_and_ends_with_the_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cloformer_deploy.bundle import BundleWriter; "
        "from cloformer_deploy.manifest import Manifest\n"
        "with BundleWriter(Path(sys.argv[1]), Manifest.model_validate_json(sys.argv[2]), overwrite=False) as writer:\n"
        "    (writer.staging / 'half').write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path), head().model_dump_json()]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert "another export" in refusal(lambda: export(tmp_path, FILE)).message
        process.kill()
    assert any(name.endswith("/half") for name in tree(tmp_path))
    export(tmp_path, FILE)
    assert_whole(tmp_path, FILE)


def test_the_lock_is_freed_after_every_refusal(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    refusal(lambda: export(tmp_path, OTHER, manifest=head("second")))
    (tmp_path / OTHER).write_text("stray")
    refusal(lambda: export(tmp_path, OTHER))
    (tmp_path / OTHER).unlink()
    export(tmp_path, OTHER)
    assert_whole(tmp_path, FILE, OTHER)


@pytest.mark.parametrize("content", [b"", b"{", b'["../../mine"]', b'["notes.txt", "/mine"]', b'["manifest.json"]'])
def test_a_stale_staging_folder_never_says_to_remove_what_is_elsewhere(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "a" / "b"
    export(root, FILE)
    for path in (tmp_path / "mine", root / "notes.txt"):
        path.write_text("mine")
    (root / ".staging-old").mkdir()
    (root / ".staging-old" / ".touched.json").write_bytes(content)
    failing(BundleWriter(root, head(), overwrite=False), RuntimeError())
    Bundle.open(root).verify()
    export(root, OTHER)
    for path in (tmp_path / "mine", root / "notes.txt"):
        assert path.read_text() == "mine"
        path.unlink()
    assert_whole(root, FILE, OTHER)


# Killed

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
    """What stood there, what is being done, what is there once it is done, and for which model."""

    def nothing() -> None:
        return None

    def before() -> None:
        export(root, FILE, FOLDER, content="1")

    def over(manifest: Manifest, *names: str) -> Step:
        return lambda: export(root, *names, content="2", manifest=manifest, overwrite=True)

    second, relabelled = head("second"), head(labels=("x", "y"))
    return {
        "into nothing": (nothing, lambda: export(root, FILE, FOLDER, content="2"), {FILE, FOLDER}, head()),
        "adding": (before, lambda: export(root, OTHER, content="2"), {FILE, FOLDER, OTHER}, head()),
        "replacing": (before, lambda: export(root, FILE, FOLDER, content="2"), {FILE, FOLDER}, head()),
        "other weights": (before, over(second, FILE, FOLDER), {FILE, FOLDER}, second),
        "other weights, fewer files": (before, over(second, OTHER), {OTHER}, second),
        "other labels": (before, over(relabelled, FOLDER), {FOLDER}, relabelled),
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
    """What a killed commit left is removed, not taken for a stray, then or by a later export."""
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


# Reading


def test_no_bundle(tmp_path: Path) -> None:
    assert "is not a bundle" in refusal(lambda: Bundle.open(tmp_path)).message
    assert "is not a bundle" in refusal(lambda: Bundle.open(tmp_path / "missing")).message
    (tmp_path / "file").write_text("")
    assert "cannot be read" in refusal(lambda: Bundle.open(tmp_path / "file")).message
    (tmp_path / "manifest.json").mkdir()
    assert "cannot be read" in refusal(lambda: Bundle.open(tmp_path)).message


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A good one, to be spoilt."""
    made = export(tmp_path / "bundle", FILE, FOLDER)
    made.verify()
    return made


PARTS = {"file": FILE, "folder": FOLDER, "in a folder": f"{FOLDER}/Data/weights/weight.bin", "weights": None}


def part(bundle: Bundle, name: str | None) -> Path:
    return bundle.root / name if name else bundle.weights_path


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_verify_sees_what_is_missing(bundle: Bundle, name: str | None) -> None:
    path = part(bundle, name)
    path.rename(bundle.root / "elsewhere")
    error = refusal(bundle.verify)
    assert str(path if path.parent == bundle.root else bundle.root / FOLDER) in error.message
    assert ("missing" in error.message) == (path.parent == bundle.root)


@pytest.mark.parametrize("name", [FILE, PARTS["in a folder"], None])
def test_verify_sees_one_changed_byte(bundle: Bundle, name: str | None) -> None:
    path = part(bundle, name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "sha256 differs" in refusal(bundle.verify).message


def test_verify_sees_a_file_more_in_a_folder(bundle: Bundle) -> None:
    (bundle.root / FOLDER / "Data" / "extra").write_text("")
    assert "sha256 differs" in refusal(bundle.verify).message


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_verify_refuses_links_even_to_the_same_content(bundle: Bundle, tmp_path: Path, name: str | None) -> None:
    path = part(bundle, name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in refusal(bundle.verify).message


def test_verify_refuses_a_link_that_leads_nowhere(bundle: Bundle) -> None:
    (bundle.root / FILE).unlink()
    (bundle.root / FILE).symlink_to("nowhere")
    refusal(bundle.verify)
    (bundle.root / FOLDER / "Data" / "nowhere").symlink_to("nowhere")
    refusal(bundle.verify)


def test_verify_refuses_what_is_neither_file_nor_folder(bundle: Bundle) -> None:
    (bundle.root / FILE).unlink()
    os.mkfifo(bundle.root / FILE)
    refusal(bundle.verify)


def test_verify_names_what_cannot_be_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = Path.open

    def denied(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == FILE:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    error = refusal(bundle.verify)
    assert str(bundle.root / FILE) in error.message
    assert "Permission denied" in error.message


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_contents_tell_digests_apart(first: bytes, second: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in "ab"]
        for path, content in zip(paths, (first, second), strict=True):
            path.write_bytes(content)
        assert (digest(paths[0]) == digest(paths[1])) == (first == second)
