"""Putting a finished folder in another's place in one step, and letting only one process do so at a time.

Linux exchanges two names in one system call; elsewhere two renames leave a short gap, in which the folder is
found under ``aside``: readers look there, and the next writer puts it back. Knows nothing of the contents.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli.errors import StorageError
from xmodal_cli.paths import storage_errors

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def aside(folder: Path) -> Path:
    """Where ``folder`` is while it changes places, on systems that cannot exchange two names."""
    return folder.with_name(f".{folder.name}.old")


@contextlib.contextmanager
def draft_path(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder``; removed at the end if it has not become ``folder`` by then."""
    draft = folder.with_name(f".{folder.name}.build-{uuid.uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_folder(draft: Path, folder: Path) -> None:
    """Make ``draft`` the new ``folder``, safely on disk; ``draft`` then names the old one, if there was one."""
    for file in draft.iterdir():
        _sync(file)
    _sync(draft)
    if not folder.exists():
        draft.rename(folder)
    elif not _exchange(draft, folder):
        _rename_twice(draft, folder)
    _sync(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0)


def _rename_twice(draft: Path, folder: Path) -> None:
    folder.rename(aside(folder))
    try:
        draft.rename(folder)
    except BaseException:
        aside(folder).rename(folder)
        raise
    shutil.rmtree(aside(folder), ignore_errors=True)


def recover(folder: Path) -> None:
    """Mend what a killed writer left: a folder stuck aside is put back, half-built ones are removed."""
    with storage_errors(folder):
        if aside(folder).exists() and not folder.exists():
            aside(folder).rename(folder)
        left = [p for p in folder.parent.iterdir() if p.name.startswith(f".{folder.name}.build-")]
    for draft in (aside(folder), *left):
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def only_writer(folder: Path, what: str = "index") -> Iterator[None]:
    """Hold the right to write ``folder``, an index or ``what``; the system frees it when the process ends.

    Raises StorageError.
    """
    with storage_errors(folder), contextlib.ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(open(folder.with_name(f".{folder.name}.lock"), "a+b"))
        held = stack.pop_all()
    with held:
        if not _try_lock(file.fileno()):
            raise StorageError(
                f"the {what} {folder.name!r} is being written by another xmodal process",
                "wait until that one has finished, then run this again; searching works meanwhile",
            )
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk; folders cannot be opened everywhere, and need no flush there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
