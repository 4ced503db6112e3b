"""``items.sqlite``: its tables, its connections, and its errors. It is the only source of truth of an index.

One transaction commits a step of an update; a reader has the snapshot of one read transaction. Where the file system
allows it, the database has a write-ahead log, so that readers and the writer do not wait for each other. On network
drives, whose machines share no memory, it has a rollback journal: a commit then waits until nobody reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.mounts import is_on_network
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.paths import storage_errors
from xmodal_cli.retrieval.conditions import SECONDS
from xmodal_cli.retrieval.file_locks import locks_work
from xmodal_cli.retrieval.hints import index_command, index_name, rebuild_hint
from xmodal_cli.retrieval.metadata import FORMAT

ITEMS = "items.sqlite"
REBUILD = "rebuild.sqlite"  # of a new index that will replace the old one
SIDE_FILES = ("-wal", "-shm", "-journal")  # suffixes of the files that SQLite creates next to a database
TIMEOUT = 30.0  # seconds that a commit waits for readers of a database with a rollback journal

NOT_READ = -1  # the size of a photo whose vector was imported, and whose file may not exist here
OTHER_DECODING = f"decoding != '{DECODING}'"  # the vector was computed in another version of decoding
NO_FACTS = f"width IS NULL AND size != {NOT_READ}"  # the header of the photo was not read
# name -> statement; an index that was written by xmodal 0.1.0 gets them by its next update
DATE_INDEXES = {
    "items_by_taken": "CREATE INDEX items_by_taken ON items (taken) WHERE taken IS NOT NULL",
    "items_by_seconds": f"CREATE INDEX items_by_seconds ON items ({SECONDS}) WHERE taken IS NULL",
}
# of the few photos that updates and filters by date look for; the number of all others does not matter
_NOT_CURRENT = f"items_not_{DECODING.replace('-', '_')}"
PARTIAL_INDEXES = {
    _NOT_CURRENT: f"CREATE INDEX {_NOT_CURRENT} ON items (decoding) WHERE {OTHER_DECODING}",
    "items_without_facts": f"CREATE INDEX items_without_facts ON items (size) WHERE {NO_FACTS}",
}
ADDED_INDEXES = DATE_INDEXES | PARTIAL_INDEXES
SCHEMA = f"""
PRAGMA user_version={FORMAT};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (id INTEGER PRIMARY KEY, dtype TEXT NOT NULL, num_rows INTEGER NOT NULL, sha256 TEXT NOT NULL,
                       cells INTEGER NOT NULL, cell_sizes BLOB NOT NULL, num_deleted INTEGER NOT NULL, deleted BLOB);
CREATE TABLE cells (id INTEGER PRIMARY KEY, num_trained INTEGER NOT NULL, group_sizes BLOB NOT NULL,
                    groups BLOB NOT NULL, centroids BLOB NOT NULL);
CREATE TABLE items (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                    digest BLOB NOT NULL, decoding TEXT NOT NULL, segment INTEGER NOT NULL, position INTEGER NOT NULL,
                    width INTEGER, height INTEGER, taken TEXT, caption TEXT, tags TEXT);
CREATE INDEX items_by_digest ON items (digest);
CREATE INDEX items_by_vector ON items (segment, position);
CREATE TABLE unreadable (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, reason TEXT NOT NULL,
                         category TEXT NOT NULL);
{";".join(ADDED_INDEXES.values())};
"""

_FULL, _NO_LOCKS = (sqlite3.SQLITE_FULL,), (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_ACCESS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, *_NO_LOCKS)


def connect_new(file: Path) -> sqlite3.Connection:
    """A connection to an empty file, in which the tables are created; the caller renames it when it is complete."""
    database = _connect(file, "mode=rw&nolock=1")  # nobody else has the file, and some file systems have no locks
    database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA)
    return database


def connect_reader(file: Path) -> sqlite3.Connection:
    """A connection in a read transaction. Raises FileNotFoundError, BadData.

    A database in a folder that cannot be written has no shared memory; it is read as one that nobody changes.
    """
    check_regular_file(file, rebuild_hint(file.parent, "PATH"))
    with reading(file, "PATH"), _access_errors(file):
        has_locks = locks_work(file.parent)
        for options in ("mode=rw", "mode=ro") if has_locks else ():
            try:
                return _begin_reading(file, options)
            except sqlite3.OperationalError as error:
                if not _is(error, _NO_ACCESS):
                    raise
        _check_complete(file, has_locks)
        return _begin_reading(file, "mode=ro&immutable=1")


def connect_writer(file: Path) -> sqlite3.Connection:
    """A connection for transactions, whose commits are flushed to disk. The caller has the lock of the index.

    Raises BadData, StorageError.
    """
    with writing(file):
        if not locks_work(file.parent, is_writer=True):  # the lock of the index has warned that there are none
            return _prepare_without_memory(file, "mode=rw&nolock=1")
        try:
            return _prepare_writing(file, "mode=rw", "DELETE" if is_on_network(file) else "WAL")
        except sqlite3.OperationalError as error:
            if not _is(error, _NO_LOCKS):
                raise
        try:
            return _prepare_without_memory(file, "mode=rw")
        except sqlite3.OperationalError as error:
            if not _is(error, _NO_LOCKS):
                raise
            return _prepare_without_memory(file, "mode=rw&nolock=1")


def _check_complete(file: Path, has_locks: bool) -> None:
    """Raises BadData if there is a log or a journal, which an immutable database would not be read with."""
    if not any(_size_of(Path(f"{file}{suffix}")) for suffix in ("-wal", "-journal")):
        return
    if has_locks:
        raise BadData(
            f"{file} cannot be read: its last update was interrupted, and its folder cannot be written",
            "make the folder writable, and search once",
        )
    command = index_command(index=index_name(file.parent))
    raise BadData(
        f"{file} is being written, or its last update was interrupted; its file system has no locks",
        f"wait until the update has finished; if there is none, complete it: {command}",
    )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _begin_reading(file: Path, options: str) -> sqlite3.Connection:
    database = _connect(file, options)
    try:
        database.execute("PRAGMA query_only=1")
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the transaction begins with a read
        return database
    except BaseException:
        database.close()
        raise


def _prepare_writing(file: Path, options: str, journal: str) -> sqlite3.Connection:
    database = _connect(file, options)
    try:
        database.execute(f"PRAGMA journal_mode={journal}").fetchone()
        database.execute("PRAGMA synchronous=FULL")
        database.execute("BEGIN IMMEDIATE")  # the first use of the shared memory
        database.execute("ROLLBACK")
        return database
    except BaseException:
        database.close()
        raise


def _prepare_without_memory(file: Path, options: str) -> sqlite3.Connection:
    """For transactions with a rollback journal, without the shared memory of a write-ahead log that the file has."""
    with contextlib.closing(_connect(file, options)) as database:
        database.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
        database.execute("PRAGMA journal_mode=DELETE").fetchone()
    return _prepare_writing(file, options, "DELETE")


def attach(database: sqlite3.Connection, file: Path, name: str) -> None:
    """Attach another database of the index to the connection of a writer."""
    options = "mode=rw" if locks_work(file.parent, is_writer=True) else "mode=rw&nolock=1"
    database.execute(f"ATTACH DATABASE ? AS {name}", (_uri(file, options),))


def _uri(file: Path, options: str) -> str:
    return f"file:{quote(os.fsencode(file))}?{options}"


def _connect(file: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(_uri(file, options), TIMEOUT, uri=True, isolation_level=None, check_same_thread=False)


def format_of(database: sqlite3.Connection) -> int:
    """The format of an index: 0 for one of format 1, whose database has no number."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def missing_indexes(database: sqlite3.Connection, names: Iterable[str]) -> list[str]:
    """The ``names`` of indexes that a database does not have."""
    found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    return [name for name in names if name not in found]


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, file: Path) -> Iterator[None]:
    """A write transaction, rolled back by an exception. Raises BadData, StorageError."""
    with writing(file):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                database.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def reading(file: Path, *words: str) -> Iterator[None]:
    """Convert errors of SQLite, and of values of other types, to BadData; ``words`` as in ``rebuild_hint``."""
    try:
        yield
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        raise damaged(file, str(error), *words) from error


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Convert errors of SQLite to StorageError, those of a damaged database to BadData."""
    try:
        with storage_errors(file):
            try:
                yield
            except sqlite3.OperationalError as error:
                if _is(error, _FULL):
                    raise OSError(errno.ENOSPC, str(error)) from error
                if _is(error, _BUSY):
                    raise StorageError(
                        f"{file} is being read by another process", "close open searches of this index, then try again"
                    ) from error
                if _is(error, (*_NO_ACCESS, sqlite3.SQLITE_IOERR)):
                    raise StorageError(
                        f"{file} cannot be written: {error}", "check its permissions, or choose another folder"
                    ) from error
                raise
    except sqlite3.Error as error:
        raise damaged(file, str(error)) from error


def _is(error: sqlite3.Error, codes: tuple[int, ...]) -> bool:
    """Whether the primary code of an error is one of ``codes``."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in codes


def damaged(file: Path, reason: str, *words: str) -> BadData:
    """The error for a database that cannot be used; ``words`` as in ``rebuild_hint``."""
    return BadData(f"{file} is damaged: {reason}", rebuild_hint(file.parent, *words))


def check_regular_file(path: Path, hint: str) -> None:
    """Raises FileNotFoundError, and BadData for what is not a file, such as a named pipe.

    Opens nothing: closing a file releases the locks that other connections of this process have on it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadData(f"{path} is not a file", hint)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def check_readable(path: Path) -> None:
    """Raises FileNotFoundError, and BadData with the reason for a file that cannot be opened."""
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


@contextlib.contextmanager
def _access_errors(file: Path) -> Iterator[None]:
    """Raise the reason of the operating system for a database that cannot be opened; SQLite does not have it."""
    try:
        yield
    except sqlite3.OperationalError:
        check_readable(file)
        raise


def unreadable(path: Path, error: OSError) -> BadData:
    """The error for a file or folder of an index that cannot be read."""
    return BadData(
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check its permissions and its disk"
    )
