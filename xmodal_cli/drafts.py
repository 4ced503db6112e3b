"""Folders next to a file, in which it is written before it gets its name, and those that killed processes have left.

A draft is locked by its process (see ``file_lock`` on what locks promise), so that another one can find out that it was
abandoned. The first draft in a folder deletes the abandoned ones there. Windows locks no folders: there they stay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # a network file system that cannot flush a folder
_cleaned: set[Path] = set()  # the folders in which this process has deleted abandoned drafts


@contextlib.contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """Create an empty hidden folder next to ``target``; on exit it is deleted, with what it then contains.

    Raises OSError.
    """
    if target.parent not in _cleaned:
        remove_abandoned(target.parent)
        _cleaned.add(target.parent)
    draft, lock = _create(target)
    try:
        yield draft
    finally:
        try:
            shutil.rmtree(draft, ignore_errors=True)
        finally:  # also if it is interrupted
            if lock is not None:
                os.close(lock)


def remove_abandoned(folder: Path) -> None:
    """Delete the drafts in ``folder`` whose processes have ended; errors are ignored."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for draft in [Path(e.path) for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]:
            if (lock := _lock(draft)) is not None:
                shutil.rmtree(draft, ignore_errors=True)
                os.close(lock)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk. Systems on which a folder cannot be opened do not need it.

    Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _create(target: Path) -> tuple[Path, int | None]:
    """A new draft and the descriptor that has its lock; None where folders cannot be locked."""
    while True:
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        draft.mkdir()
        lock = _lock(draft)
        if lock is None or draft.exists():  # otherwise another process has deleted it before it was locked
            return draft, lock


def _lock(draft: Path) -> int | None:
    """A descriptor of ``draft`` that has its lock; None if another one has it, or if it cannot be locked."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(draft, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
