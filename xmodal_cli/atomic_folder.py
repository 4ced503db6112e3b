"""Atomic replacement of a folder by a new version, and a lock that admits one writer.

Linux exchanges two names in one system call. Other systems need two renames: between them the folder is at
``backup_path``, where readers look for it and from where the next writer restores it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli import file_lock
from xmodal_cli.drafts import sync
from xmodal_cli.paths import make_folder, storage_errors
from xmodal_cli.reporter import SILENT, Reporter

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def backup_path(folder: Path) -> Path:
    """The path of the old ``folder`` during a replacement, on systems that cannot exchange two names."""
    return folder.with_name(f".{folder.name}.old")


@contextlib.contextmanager
def draft_path(folder: Path) -> Iterator[Path]:
    """Create an empty folder next to ``folder``; on exit it is deleted, with what it then contains."""
    draft = folder.with_name(f".{folder.name}.build-{uuid.uuid4().hex[:8]}")
    make_folder(folder.parent)
    with storage_errors(folder, creating=True):
        draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_folder(draft: Path, folder: Path) -> None:
    """Replace ``folder`` by ``draft``, flushed to disk. An old folder is then at ``draft``, or deleted."""
    for file in draft.iterdir():
        sync(file)
    sync(draft)
    if not folder.exists():
        draft.rename(folder)
    elif not _exchange(draft, folder):
        _rename_twice(draft, folder)
    sync(folder.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one system call. Returns False where that is not supported."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0)


def _rename_twice(draft: Path, folder: Path) -> None:
    folder.rename(backup_path(folder))
    try:
        draft.rename(folder)
    except BaseException:
        backup_path(folder).rename(folder)
        raise
    shutil.rmtree(backup_path(folder), ignore_errors=True)


def recover(folder: Path) -> None:
    """Clean up after a killed writer: restore ``folder`` from ``backup_path`` and delete unfinished drafts."""
    with storage_errors(folder):
        if backup_path(folder).exists() and not folder.exists():
            backup_path(folder).rename(folder)
        name = re.compile(re.escape(f".{folder.name}.build-") + "[0-9a-f]{8}")  # not of the index NAME.build-x
        drafts = [p for p in folder.parent.iterdir() if name.fullmatch(p.name)]
    for draft in (backup_path(folder), *drafts):
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def write_lock(
    folder: Path, content: str = "index", reporter: Reporter = SILENT, wait_seconds: float = 0.0
) -> Iterator[None]:
    """Lock ``folder`` for writing, see ``file_lock``; the lock file is next to it.

    ``content`` is the noun for the folder in messages. Raises StorageError if another process has the lock for longer
    than ``wait_seconds``.
    """
    hint = "wait until it has finished, then run this command again; searching works in the meantime"
    file = folder.with_name(f".{folder.name}.lock")
    with file_lock.write_lock(file, f"the {content} {folder.name!r}", reporter, wait_seconds, hint):
        yield
