"""Locks of writers: one process at a time writes an index, a run or the registry of datasets.

The operating system releases a lock when its process ends, also if it is killed. The lock file holds the process that
has the lock, for messages, and is deleted on release. Where the file system has no locks, a warning is logged and the
writer continues.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xmodal_cli.errors import StorageError
from xmodal_cli.paths import make_folder, new_folders, storage_errors
from xmodal_cli.reporter import SILENT, Reporter

_LOCKED = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # another process has the lock; all other errors: no locks here
_POLL_SECONDS = 0.05
_REPORT_SECONDS = 1.0
_WINDOWS_OFFSET = 1 << 30  # Windows blocks reading the locked bytes, so a byte behind the content is locked


class AlreadyLocked(StorageError):
    """Another process has the lock."""


@contextlib.contextmanager
def write_lock(
    file: Path,
    what: str,
    reporter: Reporter = SILENT,
    wait_seconds: float = 0.0,
    hint: str = "wait until it has finished, then run this command again",
) -> Iterator[None]:
    """Have the lock ``file`` while the context is active; wait for another process for up to ``wait_seconds``.

    ``what`` names the locked thing in messages, such as ``the run runs/a``. A wait of more than a second is reported.
    Raises AlreadyLocked with the other process and ``hint`` if it has the lock, StorageError if ``file`` cannot be
    created.
    """
    start, is_reported = time.monotonic(), False
    while (descriptor := _open_locked(file, what, reporter)) is None:
        waited, message = time.monotonic() - start, f"{what} is being written by another xmodal process{_owner(file)}"
        if waited >= wait_seconds:
            raise AlreadyLocked(message, hint)
        if waited >= _REPORT_SECONDS and not is_reported:
            reporter.info(f"{message}: waiting until it has finished")
            is_reported = True
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _release(file, descriptor)


@contextlib.contextmanager
def folder_lock(folder: Path, what: str, reporter: Reporter = SILENT, wait_seconds: float = 0.0) -> Iterator[None]:
    """``write_lock`` with a file in ``folder``, which is created, and deleted again if it is then empty."""
    hint = "wait until it has finished, or write to another folder with --out"
    with new_folders(folder), write_lock(folder / ".lock", what, reporter, wait_seconds, hint):
        yield


def folder_is_locked(folder: Path) -> bool:
    """Whether a process has the ``folder_lock``. Takes no lock, so that a writer that starts now is not refused.

    A lock file is deleted on release. Where the process that wrote it was killed, the file remains: a process that no
    longer runs on this machine has no lock. One on another machine, or with an unknown name, is taken to have it.
    """
    owner = _owner(folder / ".lock")
    if not owner:
        return False
    import socket

    number, _, host = owner.removeprefix(" (process ").removesuffix(")").partition(" on ")
    if sys.platform == "win32" or host != socket.gethostname() or not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)  # sends no signal
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def _open_locked(file: Path, what: str, reporter: Reporter) -> int | None:
    """A descriptor of ``file``, locked; None if another process has the lock."""
    make_folder(file.parent)
    with storage_errors(file, creating=True):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock_now(descriptor)
    except OSError as error:
        if error.errno in _LOCKED:
            os.close(descriptor)
            return None
        reporter.warn(f"the file system of {file.parent} has no locks: do not write {what} by two commands at once")
    if not _is_current(file, descriptor):  # deleted by its last owner between opening and locking
        os.close(descriptor)
        return _open_locked(file, what, reporter)
    _write_owner(descriptor)
    return descriptor


def _lock_now(descriptor: int) -> None:
    """Lock without waiting. Raises OSError."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_current(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))  # noqa: PTH116
    except OSError:
        return False


def _write_owner(descriptor: int) -> None:
    import socket  # takes milliseconds; a search imports this module

    with contextlib.suppress(OSError):  # a full disk: the lock works without the name
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode("utf-8", "replace"))


def _owner(file: Path) -> str:
    """The process that has the lock, in parentheses; empty if it is not known."""
    try:
        text = file.read_bytes()[:200].decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f" ({text})" if text.startswith("process ") else ""


def _release(file: Path, descriptor: int) -> None:
    delete: Callable[[], None] = lambda: file.unlink(missing_ok=True)  # noqa: E731
    with contextlib.suppress(OSError):
        if sys.platform != "win32":  # while it is locked, so that no other process can have locked it
            delete()
    os.close(descriptor)
    with contextlib.suppress(OSError):
        if sys.platform == "win32":  # Windows deletes no open file; this fails if another process has opened it
            delete()
