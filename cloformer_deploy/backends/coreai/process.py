"""Call `api` in processes of its own: Apple's native code prints, and a damaged file can crash it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cloformer_deploy.backends.failures import package_missing
from cloformer_deploy.backends.package_files import MAX_FILE_BYTES, check_no_links, shown
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.system.files import naming, reachable
from cloformer_deploy.system.subprocesses import silent_pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloformer_deploy.backends.coreai.program import Program

MODULES = ("coreai", "coreai_torch")
EXTRA = "coreai"
_LOCAL = "USE_LOCAL_COREAI"
"""Variable that has the package's own interpreter run files on a Mac that has Core AI too."""
_WHEELS = "its packages exist for Linux on x86-64 with glibc 2.34 and for macOS 26 on Apple silicon"

Asset: TypeAlias = tuple[str, bool, tuple[int, int]]
"""Path, whether every tensor is wanted, and the time and size of the program, which tell a new file from an old one."""
Arrays: TypeAlias = Mapping[str, "NDArray[Any]"]


def missing() -> MissingPartError | None:
    """Return the error that Core AI's packages are not installed, or None."""
    lack = package_missing(*MODULES, extra=EXTRA)
    return None if lack is None else MissingPartError(f"{lack.message} ({_WHEELS})", lack.hint)


def require_packages() -> None:
    """Check that Core AI's packages are installed.

    Raises:
        MissingPartError: they are not.
    """
    lack = missing()
    if lack is not None:
        raise lack


def check_asset(path: Path) -> None:
    """Check that a folder holds a program and nothing that is compiled, linked or no regular file.

    A system with Core AI may run what an asset holds in compiled form in place of its program.

    Raises:
        BundleError: it holds something else.
    """
    from cloformer_deploy.backends.coreai.api import FILES, PROGRAM_FILE

    hint = "export it again"
    with naming(path):
        if not path.is_dir():
            raise BundleError("it is no folder, as assets of Core AI are", hint)
        check_no_links(path)
        found = {file.relative_to(path).as_posix(): file for file in path.rglob("*")}
        others = sorted(found.keys() - FILES)
        if others:
            raise BundleError(f"it holds {shown(others[0])}, which is no part of an asset that is not compiled", hint)
        if PROGRAM_FILE not in found:
            raise BundleError(f"it has no {PROGRAM_FILE}", hint)
        size = found[PROGRAM_FILE].stat().st_size
        if size > MAX_FILE_BYTES:
            raise BundleError(f"{PROGRAM_FILE} has {size} bytes, more than the limit of {MAX_FILE_BYTES}", hint)


def read(path: Path) -> "Program":
    """Read the program of an asset.

    Raises:
        MissingPartError: the packages are not installed.
        BundleError: the asset is damaged.
    """
    require_packages()
    check_asset(path)
    with reachable(path.absolute()) as file:
        try:
            found: Program = _submit(usable_cores(), True, _read, str(file)).result()
            return found
        except (BrokenProcessPool, RuntimeError) as error:
            _pool.cache_clear()
            raise BundleError(f"{path} is damaged: {_line(error)}", "export it again") from error


class Processes:
    """Runs batches of an asset side by side, in processes that all assets share and that keep those they ran last.

    Args:
        path: of the asset.
        count: of processes.
        local: use the package's interpreter even where the system has Core AI.
        tensors: return every float tensor that is computed, by the names of `api.read`.

    Raises:
        MissingPartError: the packages are not installed.
        BundleError: it is no asset.
    """

    def __init__(self, path: Path, count: int, *, local: bool = True, tensors: bool = False) -> None:
        require_packages()
        check_asset(path)
        self._path, self._count, self._local, self._tensors = path.absolute(), count, local, tensors

    def run(self, batches: list[Arrays]) -> list[Arrays]:
        """Run batches, arrays by name.

        Raises:
            ToolError: the runtime failed or crashed.
        """
        from cloformer_deploy.backends.coreai.api import PROGRAM_FILE

        found = (self._path / PROGRAM_FILE).stat()
        with reachable(self._path) as file, _quoting(self._path):
            asset = (str(file), self._tensors, (found.st_mtime_ns, found.st_size))
            jobs = [_submit(self._count, self._local, _run, asset, batch) for batch in batches]
            return [job.result() for job in jobs]


@lru_cache(maxsize=4)
def _pool(count: int, local: bool) -> ProcessPoolExecutor:
    return silent_pool(count, {_LOCAL: "1"} if local else {})


def _submit(count: int, local: bool, *call: Any) -> "Future[Any]":
    try:
        return _pool(count, local).submit(*call)
    except BrokenProcessPool:  # a process crashed on an asset before
        _pool.cache_clear()
        return _pool(count, local).submit(*call)


@contextmanager
def _quoting(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise ToolError(f"the runtime of Core AI crashed on {path}", "export it again, or report this") from error
    except RuntimeError as error:
        raise ToolError(f"the runtime of Core AI failed on {path}: {_line(error)}", "export it again") from error


def _line(error: BaseException) -> str:
    """Return the first line of a message, which native code may have filled with a whole program."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _read(path: str) -> "Program":
    from cloformer_deploy.backends.coreai import api

    with _plain_errors():
        return api.read(Path(path))


def _run(asset: Asset, feed: Arrays) -> Arrays:
    with _plain_errors():
        found: Arrays = _opened(*asset).run(feed)
        return found


@lru_cache(maxsize=2)
def _opened(path: str, tensors: bool, _stamp: tuple[int, int]) -> Any:
    from cloformer_deploy.backends.coreai import api

    return api.Executable(Path(path), tensors=tensors)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn errors, of classes that may not be sent to another process, into RuntimeError."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{error}") from None
