"""Writing to a bundle: all artifacts at once, or none.

At every instant each file that the manifest lists is there, whole and as listed: new files are made in a staging folder
beside it and renamed into place, and a file that is about to be replaced is first removed from the manifest. The names
of what a commit touches are kept in its staging folder, so that the next export can clean up after a killed one.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import MANIFEST_NAME, Artifact, FileName, Interface, Manifest, Scalar
from cloformer_deploy.errors import BundleError

_STAGING_PREFIX = ".staging-"
_TOUCHED = ".touched.json"
_NAMES = TypeAdapter(set[FileName])


class BundleWriter:
    """Adds artifacts to a bundle, all at once at `commit`; one writer at a time for each bundle.

    Use as a context manager: make the files in `staging`, then commit. Without a commit, what stood at
    the output stands there unchanged.
    """

    def __init__(self, root: Path, head: Manifest, *, overwrite: bool) -> None:
        self.root = root
        self.head = head
        self.overwrite = overwrite
        self.staging: Path
        self._made: list[Path] = []
        self._previous: Manifest | None = None

    def __enter__(self) -> Self:
        """Lock the output and make the staging folder.

        Raises:
            BundleError: the output cannot be written, is being written by another export, or is a bundle of
                other weights and `overwrite` was not asked for.
        """
        try:
            self._make_root()
            self._lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self._remove_made()
            raise BundleError(f"{self.root} cannot be written: {error.strerror}", "choose another --output") from error
        try:
            self._take_lock()
            self._previous = self._readable_previous()
            for stale in self.root.glob(_STAGING_PREFIX + "*"):  # of a killed export: we hold the lock
                self._clear(stale)
            self.staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=self.root))
        except OSError as error:
            self.__exit__(None, None, None)
            raise BundleError(f"{self.root} cannot be written: {error.strerror}", "choose another --output") from error
        except BundleError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the staging folder, release the lock, and remove folders that were made for nothing."""
        if hasattr(self, "staging"):
            self._clear(self.staging)
        os.close(self._lock)
        self._remove_made()

    def commit(self, artifacts: Iterable[Artifact]) -> Bundle:
        """Move the staged artifacts and the staged copy of the weights into place and list them.

        Raises:
            BundleError: a file that is in no manifest stands where one has to go, and `overwrite` was not asked
                for; or the output cannot be written.
        """
        new = tuple(artifacts)
        kept = self._previous.artifacts if self._previous and self._same(self._previous) else ()
        kept = tuple(old for old in kept if old.path not in {item.path for item in new})
        ordered = sorted((*kept, *new), key=lambda item: item.key)
        used = {item.calibration.sha256 for item in ordered if item.calibration}
        known = (*self.head.calibrations, *(self._previous.calibrations if self._previous else ()))
        sets = {item.sha256: item for item in known if item.sha256 in used}
        manifest = self.head.model_copy(update={"artifacts": tuple(ordered), "calibrations": tuple(sets.values())})
        touched = _listed(manifest) | _listed(self._previous)
        arriving = [self.head.weights.file, *(name for item in new for name in item.files)]
        self._check_strays(arriving)
        try:
            (self.staging / _TOUCHED).write_bytes(_NAMES.dump_json(touched))
            final = self._staged(manifest)  # from here on only renames, which need no space
            self._unlist(new)
            for name in arriving:
                self._move(self.staging / name, self.root / name)
            final.rename(self.root / MANIFEST_NAME)
            self._discard_unlisted(self.staging)
        except OSError as error:
            raise BundleError(f"{self.root} cannot be written: {error.strerror}", "choose another --output") from error
        return Bundle(self.root, manifest)

    def _same(self, other: Manifest) -> bool:
        """Tell whether artifacts of both manifests belong into one bundle."""
        fields = {"task", "network", "variant", "architecture", "labels", "preprocessing"}
        mine, theirs = (m.model_dump(include=fields) for m in (self.head, other))
        return mine == theirs and self.head.weights.sha256 == other.weights.sha256

    def _readable_previous(self) -> Manifest | None:
        if not (self.root / MANIFEST_NAME).exists():
            return None
        try:
            previous = Bundle.open(self.root).manifest
        except BundleError:
            if self.overwrite:
                return None
            raise
        if not self._same(previous) and not self.overwrite:
            raise BundleError(
                f"{self.root} holds a bundle of {self._difference(previous)}",
                "choose another --output, or give up what it holds with --overwrite",
            )
        return previous

    def _difference(self, previous: Manifest) -> str:
        if previous.weights.sha256 != self.head.weights.sha256:
            return f"other weights: {previous.weights.name} ({previous.weights.sha256[:12]})"
        if previous.task != self.head.task:
            return f"another task: {previous.task}"
        if previous.labels != self.head.labels:
            return "other labels"
        size = previous.preprocessing.height, previous.preprocessing.width
        if size != (self.head.preprocessing.height, self.head.preprocessing.width):
            return f"another input size: {size[0]} x {size[1]}"
        return "another architecture or preprocessing"

    def check_replacing(self, name: str, interface: Interface, options: Mapping[str, Scalar]) -> None:
        """Check that an artifact of this name, interface and options may be written.

        Raises:
            BundleError: a file is in the way that belongs to no bundle, or an artifact of another interface or with
                other options, and `overwrite` was not asked for.
        """
        self._check_strays([name])
        for old in self._previous.artifacts if self._previous else ():
            if old.path != name or self.overwrite:
                continue
            if old.input != interface:
                raise BundleError(
                    f"{self.root / old.path} has --input {old.input.kind} --batch {old.input.batch}, "
                    f"not {interface.kind} and {interface.batch}",
                    "choose another --output, or replace it with --overwrite",
                )
            if dict(old.options) != dict(options):
                raise BundleError(
                    f"{self.root / old.path} was made with {_told(old.options)}, not {_told(options)}",
                    "choose another --output, or replace it with --overwrite",
                )

    def _check_strays(self, names: Iterable[str]) -> None:
        strays = [name for name in names if (self.root / name).exists() and name not in _listed(self._previous)]
        if strays and not self.overwrite:
            raise BundleError(
                f"{self.root / strays[0]} is in the way and belongs to no bundle",
                "move it, choose another --output, or add --overwrite",
            )

    def _unlist(self, new: tuple[Artifact, ...]) -> None:
        """Remove the artifacts that are about to be replaced from the old manifest."""
        if self._previous is not None:
            names = {item.path for item in new}
            left = tuple(old for old in self._previous.artifacts if old.path not in names)
            if left != self._previous.artifacts:
                self._staged(self._previous.model_copy(update={"artifacts": left})).rename(self.root / MANIFEST_NAME)

    def _move(self, source: Path, target: Path) -> None:
        if target.is_dir() or source.is_dir():  # neither can be renamed over the other
            _discard(target, self.staging)
        source.replace(target)

    def _discard_unlisted(self, staging: Path) -> None:
        """Remove what the commit from this staging folder touched and the manifest does not list."""
        try:
            touched = _NAMES.validate_json((staging / _TOUCHED).read_bytes())
            listed = _listed(Bundle.open(self.root).manifest) if (self.root / MANIFEST_NAME).exists() else set()
        except (OSError, ValidationError, BundleError):  # nothing was touched, or nothing is known
            return
        for name in touched - listed - {MANIFEST_NAME}:
            _discard(self.root / name, staging)

    def _clear(self, staging: Path) -> None:
        """Remove a staging folder, and what its commit left behind if it was not finished."""
        with contextlib.suppress(OSError):
            self._discard_unlisted(staging)
        shutil.rmtree(staging, ignore_errors=True)

    def _staged(self, manifest: Manifest) -> Path:
        made = Path(tempfile.mkdtemp(dir=self.staging)) / MANIFEST_NAME
        with made.open("w") as file:
            file.write(manifest.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return made

    def _make_root(self) -> None:
        missing = [path for path in (self.root, *self.root.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._made.append(path)

    def _remove_made(self) -> None:
        for path in reversed(self._made):
            try:
                path.rmdir()
            except OSError:  # not empty: something was committed
                return

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(
                f"another export is writing to {self.root}", "wait for it, or choose another --output"
            ) from None


def _told(options: Mapping[str, Scalar]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in options.items()) or "no options"


def _listed(manifest: Manifest | None) -> set[str]:
    if manifest is None:
        return set()
    return {manifest.weights.file, *(name for item in manifest.artifacts for name in item.files)}


def _discard(path: Path, staging: Path) -> None:
    """Remove a file or folder, by a rename into staging so that a folder is never seen half-removed."""
    if path.exists() or path.is_symlink():
        path.rename(Path(tempfile.mkdtemp(dir=staging)) / path.name)
