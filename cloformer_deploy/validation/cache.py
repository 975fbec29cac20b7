"""A cache of results on disk, of bounded size, keyed by the content that each result depends on.

It is one SQLite file: parallel runs share it, and a killed run leaves it intact. Each value has a checksum over its key
and itself; a damaged value counts as missing. A file that is not a database is replaced.
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LIMIT_BYTES = 512 * 2**20
"""Largest size on disk; beyond it the least recently used results are removed."""
_KEPT = 0.8
"""Share of the limit that remains after results were removed."""
_WAIT_S = 30.0
_SCHEMA = (
    "create table if not exists results (key blob primary key, value blob, checksum blob, used real) without rowid"
)
_AT_ONCE = 500


def default_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/cloformer-deploy`, or the same in `~/.cache` without that variable.

    None where the user has no home folder, as in a container that runs under an unknown user id.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloformer-deploy"
    except RuntimeError:
        return None


def key(*parts: str | bytes) -> bytes:
    """Return a key of 20 bytes (BLAKE2b) of everything that a result depends on.

    Each part is hashed after its length, so that the same characters split otherwise give another key.
    """
    found = hashlib.blake2b(digest_size=20)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "little") + content)
    return found.digest()


def _is_whole(item: object, value: object, checksum: object) -> bool:
    return isinstance(item, bytes) and isinstance(value, bytes) and checksum == key(item, value)


def _discard(path: Path) -> None:
    """Delete a database with the files beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


class Cache:
    """A store of bytes by key; several threads and processes may use it at once.

    If the folder cannot be used, nothing is kept and nothing is found, and no error is raised.

    Args:
        folder: folder of `results.sqlite`; it is made if it does not exist. None keeps nothing.
        limit_bytes: see `LIMIT_BYTES`.

    Attributes:
        problem: reason why nothing is kept; None if all is well.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self.problem: str | None = None if folder else "there is no home folder (--cache DIR names one)"
        self._path = None if folder is None else folder / "results.sqlite"
        self._connection = None if self._path is None else self._open(self._path)

    def _open(self, path: Path) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = normal")
                connection.execute(_SCHEMA)
                return connection
            except sqlite3.OperationalError as error:
                self.problem = str(error)
                return None
            except sqlite3.DatabaseError:  # the file is truncated or not a database
                _discard(path)
            except OSError as error:
                self.problem = str(error)
                return None
        return None

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that are found."""
        wanted = list(keys)
        found: dict[bytes, bytes] = {}
        with self._lock, self._guarded():
            for first in range(0, len(wanted), _AT_ONCE):
                some = wanted[first : first + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"select key, value, checksum from results where key in ({marks})"  # noqa: S608 - marks alone
                rows = self._connected().execute(query, some).fetchall()
                found.update((item, value) for item, value, checksum in rows if _is_whole(item, value, checksum))
                update = f"update results set used = ? where key in ({marks})"  # noqa: S608
                self._connected().execute(update, [time.time(), *some])
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store values by key, all or none of them."""
        now = time.time()
        rows = [(item, value, key(item, value), now) for item, value in values.items()]
        with self._lock, self._guarded():
            connection = self._connected()
            connection.execute("begin immediate")
            try:
                connection.executemany("insert or replace into results values (?, ?, ?, ?)", rows)
                self._make_room(connection)
            except BaseException:
                connection.execute("rollback")
                raise
            connection.execute("commit")

    def _make_room(self, connection: sqlite3.Connection) -> None:
        pages, free, page_bytes = (
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        total = (pages - free) * page_bytes
        if total <= self._limit:
            return
        for item, size in connection.execute("select key, length(value) from results order by used").fetchall():
            if total <= _KEPT * self._limit:
                break
            connection.execute("delete from results where key = ?", (item,))
            total -= size

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError(self.problem or "the cache is closed")
        return self._connection

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # locked for too long, the disk is full, the folder is read-only
            self.problem = self.problem or str(error)
        except sqlite3.DatabaseError:  # a page is damaged: start with a new file
            self.close()
            if self._path is not None:
                _discard(self._path)
                self._connection = self._open(self._path)

    def close(self) -> None:
        """Close the file; nothing is kept or found after it."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
