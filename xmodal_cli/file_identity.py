"""The identity of a file: its checksum, or its size and modification time. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path


def sha256_of(file: Path) -> str:
    """The sha256 of a file in hex. Raises OSError."""
    import hashlib  # takes a few milliseconds, not needed for `xmodal --help`

    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_and_mtime(path: Path | str) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds; None if the file does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called once per photo of an index
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
