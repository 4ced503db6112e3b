"""Whether the file system of an index has the locks that SQLite needs.

Without them, SQLite waits for a lock until its timeout, and then reports that another process has it.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

_SUMMARY = "index.json"  # any file but the database: closing that would release the locks of this process on it


def locks_work(folder: Path, is_writer: bool = False) -> bool:
    """Whether a file in ``folder`` can be locked. A writer tries it with a temporary file, a reader with the summary.

    True if it cannot be found out.
    """
    if sys.platform == "win32":
        return True
    try:
        with _temporary_file(folder) if is_writer else open(folder / _SUMMARY, "rb") as file:
            return _try_lock(file)
    except OSError:
        return True


def _temporary_file(folder: Path) -> AbstractContextManager[IO[bytes]]:
    import tempfile  # takes milliseconds; a search needs only the summary

    return tempfile.TemporaryFile(dir=folder)


def _try_lock(file: IO[bytes]) -> bool:
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
